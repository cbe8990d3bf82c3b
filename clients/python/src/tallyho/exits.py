"""The exit codes of the command line."""

from tallyho.errors import GatewayUnreachable, NotAGateway, NotAllowed, NotAuthenticated, TallyhoError

DONE, UNSUCCESSFUL, MISUSED, UNREACHABLE, DENIED = 0, 1, 2, 3, 4
INTERRUPTED, PIPE_CLOSED = 130, 141

MEANINGS = """exit codes:
  0    done; a crawl has completed
  1    the crawl failed or was cancelled
  2    bad input, or a file that can't be written: one line on stderr says what is wrong
  3    the gateway can't be reached, fails, or is none
  4    the gateway wants an API key, or another one
  130  interrupted; the crawl goes on"""


def exit_code(error: TallyhoError) -> int:
    """How a command ends that met this error."""
    if isinstance(error, GatewayUnreachable | NotAGateway):
        return UNREACHABLE
    return DENIED if isinstance(error, NotAuthenticated | NotAllowed) else MISUSED
