/* The reference: what a delivery costs when nothing is done but send(). One thread, one message a round to every client.
 *
 * Says "listening PORT"; a line "ROUNDS MILLISECONDS FRAME-BYTES" on its standard input begins, "done" ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
static int clients[20000], client_count;

static void welcome(int listener) {
    int fd = accept(listener, NULL, NULL), yes = 1;
    char request[4096];
    size_t got = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    while (got < 4 || memcmp(request + got - 4, "\r\n\r\n", 4)) {
        ssize_t more = read(fd, request + got, sizeof request - got);
        if (more <= 0) exit(1);
        got += more;
    }
    if (write(fd, answer, sizeof answer - 1) < 0) exit(1);
    clients[client_count++] = fd;
}

static void rounds(int count, int milliseconds, int size) {
    struct timespec next, now;
    char *frame = malloc(size + 4);
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (int number = 0; number < count; number++) {
        clock_gettime(CLOCK_REALTIME, &now);
        memset(frame, ' ', size + 4);
        frame[0] = (char)0x81, frame[1] = 126, frame[2] = (char)(size >> 8), frame[3] = (char)size;
        int used = sprintf(frame + 4, "{\"revision\":%d,\"text\":\"t=%lu\"}", number + 1,
                           (uint64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
        frame[4 + used] = ' ';
        for (int client = 0; client < client_count; client++)
            if (send(clients[client], frame, size + 4, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) exit(1);
        next.tv_nsec += milliseconds * 1000000L;
        while (next.tv_nsec >= 1000000000L) next.tv_nsec -= 1000000000L, next.tv_sec++;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    puts("done");
    fflush(stdout);
}

int main(void) {
    struct rlimit limit = {20100, 20100};
    setrlimit(RLIMIT_NOFILE, &limit);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1024)) return 1;
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct pollfd ready[2] = {{.fd = listener, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
        poll(ready, 2, -1);
        if (ready[0].revents) welcome(listener);
        if (ready[1].revents) {
            char line[100] = {0};
            int count, milliseconds, bytes;
            if (read(0, line, sizeof line - 1) <= 0) return 0;
            if (sscanf(line, "%d %d %d", &count, &milliseconds, &bytes) == 3) rounds(count, milliseconds, bytes);
        }
    }
}
