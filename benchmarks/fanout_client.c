/* A WebSocket load client that is never the bottleneck: one thread, epoll, every frame counted.
 *
 *   fanout_client PORT PATH CONNECTIONS JOBS_EACH JOBS STALLED
 *
 * Opens the connections; with JOBS_EACH > 0 each subscribes to so many of JOBS jobs, whose ids are the numbers 1 to JOBS.
 * The first STALLED of them are never read. Says "ready", then obeys lines on its standard input:
 *
 *   report      print frames, bytes, closed connections, and p50, p99, maximum of now - t in microseconds; then forget
 *   final R     print how many of the jobs' last revisions on each connection are not R
 *
 * Once it is ready it never sleeps: to wake a receiver on the same machine would cost the sender more than to send.
 *
 * A frame's moment is written in it as "t=MICROSECONDS", its revision as "revision":N.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (1 << 16)
#define MOST_MICROSECONDS 4000000

struct connection { int fd, is_open; size_t used; char *buffer; uint32_t *last; };

static struct connection *connections;
static uint32_t *histogram;
static uint64_t frames, bytes, timed, closed_connections, answers, most;
static int connection_count, jobs_each, job_count, stalled;

static void die(const char *what) { perror(what); exit(1); }

static uint64_t now_microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void send_masked(int fd, int opcode, const char *text, size_t size) {
    unsigned char frame[512] = {0x80 | opcode};
    size_t head;
    if (size < 126) { frame[1] = 0x80 | size; head = 6; }
    else { frame[1] = 0x80 | 126; frame[2] = size >> 8; frame[3] = size & 255; head = 8; }
    memcpy(frame + head, text, size); /* the mask is 0 */
    if (write(fd, frame, head + size) != (ssize_t)(head + size)) die("write");
}

static int job_of(int connection, int place) { return (connection * jobs_each + place) % job_count + 1; }

static void open_connection(int number, int port, const char *path) {
    struct connection *one = &connections[number];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    one->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (number < stalled) { int small = 4096; setsockopt(one->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small); }
    int yes = 1;
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (one->fd < 0 || connect(one->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    char request[512], reply[4096];
    int size = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n", path, port);
    if (write(one->fd, request, size) != size) die("write");
    size_t got = 0;
    for (;;) { /* byte by byte, so as not to take a frame along */
        if (read(one->fd, reply + got, 1) != 1 || ++got == sizeof reply) die("handshake");
        if (got >= 4 && !memcmp(reply + got - 4, "\r\n\r\n", 4)) break;
    }
    if (memcmp(reply, "HTTP/1.1 101", 12)) { fprintf(stderr, "%.*s", (int)got, reply); exit(1); }
    one->is_open = 1;
    for (int place = 0; place < jobs_each; place++) {
        char text[200];
        int length = snprintf(text, sizeof text,
            "{\"type\":\"subscribe\",\"payload\":{\"job_id\":\"00000000-0000-0000-0000-%012x\"}}", job_of(number, place));
        send_masked(one->fd, 1, text, length);
    }
    fcntl(one->fd, F_SETFL, O_NONBLOCK);
}

static void take(struct connection *one, const char *text, size_t size, uint64_t now) {
    const char *moment = memmem(text, size, "t=", 2), *id = memmem(text, size, "\"job_id\":\"", 10);
    const char *revision = memmem(text, size, "\"revision\":", 11);
    if (memmem(text, size < 40 ? size : 40, "\"subscribed\"", 12)) { answers++; return; }
    if (!moment) return; /* a ping */
    frames++;
    uint64_t age = now - strtoull(moment + 2, NULL, 10);
    if (age > most) most = age;
    histogram[age < MOST_MICROSECONDS ? age : MOST_MICROSECONDS]++;
    timed++;
    if (id && revision && job_count) {
        unsigned long job = strtoul(id + 10 + 24, NULL, 16);
        if (job >= 1 && job <= (unsigned long)job_count) one->last[job - 1] = strtoul(revision + 11, NULL, 10);
    }
}

static void end(struct connection *one) {
    if (one->is_open) { close(one->fd); one->is_open = 0; closed_connections++; }
}

static void receive(struct connection *one) {
    ssize_t got = read(one->fd, one->buffer + one->used, BUFFER - 1 - one->used);
    if (got <= 0) { if (got == 0 || errno != EAGAIN) end(one); return; }
    uint64_t now = now_microseconds();
    bytes += got;
    one->used += got;
    size_t start = 0;
    while (one->used - start >= 2) {
        unsigned char *head = (unsigned char *)one->buffer + start;
        size_t size = head[1] & 127, skip = 2;
        if (size == 126) { if (one->used - start < 4) break; size = head[2] << 8 | head[3]; skip = 4; }
        else if (size == 127) { if (one->used - start < 10) break; size = (size_t)head[6] << 24 | head[7] << 16 | head[8] << 8 | head[9]; skip = 10; }
        if (one->used - start < skip + size) break;
        int opcode = head[0] & 15;
        if (opcode == 1) { take(one, (char *)head + skip, size, now); }
        else if (opcode == 9) send_masked(one->fd, 10, (char *)head + skip, size);
        else if (opcode == 8) { end(one); return; }
        start += skip + size;
    }
    memmove(one->buffer, one->buffer + start, one->used -= start);
}

static uint64_t percentile(double share) {
    uint64_t seen = 0, wanted = (uint64_t)(timed * share);
    for (int age = 0; age <= MOST_MICROSECONDS; age++)
        if ((seen += histogram[age]) > wanted) return age;
    return 0;
}

static void obey(const char *line) {
    if (!strncmp(line, "report", 6)) {
        printf("%lu %lu %lu %lu %lu %lu\n", frames, bytes, closed_connections, percentile(0.5), percentile(0.99), most);
        frames = bytes = timed = most = 0;
        memset(histogram, 0, (MOST_MICROSECONDS + 1) * sizeof *histogram);
    } else if (!strncmp(line, "final ", 6)) {
        uint32_t wanted = strtoul(line + 6, NULL, 10);
        long wrong = 0;
        for (int number = stalled; number < connection_count; number++)
            for (int place = 0; place < (jobs_each ? jobs_each : job_count); place++)
                wrong += connections[number].last[jobs_each ? job_of(number, place) - 1 : place] != wanted;
        printf("%ld\n", wrong);
    }
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    int port = atoi(argv[1]);
    connection_count = atoi(argv[3]), jobs_each = atoi(argv[4]), job_count = atoi(argv[5]), stalled = atoi(argv[6]);
    struct rlimit limit = {connection_count + 100, connection_count + 100};
    setrlimit(RLIMIT_NOFILE, &limit);
    histogram = calloc(MOST_MICROSECONDS + 1, sizeof *histogram);
    connections = calloc(connection_count, sizeof *connections);
    int poll = epoll_create1(0);
    for (int number = 0; number < connection_count; number++) {
        connections[number].buffer = malloc(BUFFER);
        connections[number].last = calloc(job_count + 1, sizeof(uint32_t));
        open_connection(number, port, argv[2]);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[number]};
        if (number >= stalled && epoll_ctl(poll, EPOLL_CTL_ADD, connections[number].fd, &event)) die("epoll_ctl");
    }
    struct epoll_event commands = {.events = EPOLLIN, .data.ptr = NULL}, ready[512];
    epoll_ctl(poll, EPOLL_CTL_ADD, 0, &commands);
    uint64_t awaited = (uint64_t)(connection_count - stalled) * jobs_each;
    int is_ready = 0;
    for (;;) {
        if (!is_ready && answers >= awaited) { is_ready = 1; puts("ready"); fflush(stdout); }
        int count = epoll_wait(poll, ready, 512, is_ready ? 0 : -1);
        for (int number = 0; number < count; number++) {
            struct connection *one = ready[number].data.ptr;
            if (one) { if (one->is_open) receive(one); continue; }
            char line[100];
            ssize_t got = read(0, line, sizeof line - 1);
            if (got <= 0) return 0;
            line[got] = 0;
            obey(line);
        }
    }
}
