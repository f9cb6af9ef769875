/*
 * Who is woken: a pipe, a FIFO, an event counter and a terminal with several who read, write, poll and select at once.
 * A reader takes what it is woken for, a poller takes nothing.
 */
#include "twin.h"

#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <sys/eventfd.h>
#include <sys/select.h>

/* Longer than anything takes: what has not happened by then never will. */
#define PATIENCE 15000

static int in, out;
static int *done;

static void another(void)
{
	__sync_fetch_and_add(done, 1);
}

static void *reader(void *arg)
{
	char bytes[8];

	(void)arg;
	if (read(in, bytes, out < 0 ? 8 : 1) >= 0)
		another();
	return NULL;
}

static void *writer(void *arg)
{
	static char bytes[PAGE];

	(void)arg;
	if (write(out, bytes, sizeof bytes) == sizeof bytes)
		another();
	return NULL;
}

/* Polls for input, or for room if the argument says so, once. */
static void *poller(void *arg)
{
	struct pollfd file = {arg ? out : in, arg ? POLLOUT : POLLIN, 0};

	if (poll(&file, 1, PATIENCE) == 1)
		another();
	return NULL;
}

static void *selector(void *arg)
{
	fd_set set;

	(void)arg;
	FD_ZERO(&set);
	FD_SET(in, &set);
	if (select(in + 1, &set, NULL, NULL, &(struct timeval){PATIENCE / 1000, 0}) == 1)
		another();
	return NULL;
}

/* Polls again and again. */
static void *watcher(void *arg)
{
	for (;;) {
		struct pollfd file = {arg ? out : in, arg ? POLLOUT : POLLIN, 0};

		poll(&file, 1, -1);
		usleep(1000);
	}
	return NULL;
}

static void start(int count, void *(*act)(void *), void *arg)
{
	pthread_t thread;

	while (count--)
		if (pthread_create(&thread, NULL, act, arg))
			puts("no thread");
	/* Time to fall asleep; nothing depends on it but what is tried. */
	sleep_ms(40);
}

/* Waits until `expected` are done. */
static void expect(const char *what, int expected)
{
	for (int patience = PATIENCE; *(volatile int *)done != expected && patience > 0; patience--)
		sleep_ms(1);
	printf("%s: %d of %d\n", what, *done, expected);
	fflush(stdout);
	*done = 0;
}

static void new_pipe(void)
{
	int ends[2];

	if (pipe(ends))
		puts("no pipe");
	in = ends[0];
	out = ends[1];
}

static void fill(void)
{
	static char bytes[PAGE];

	fcntl(out, F_SETFL, O_NONBLOCK);
	while (write(out, bytes, sizeof bytes) > 0)
		;
	fcntl(out, F_SETFL, 0);
}

static void send(int count)
{
	while (count--)
		if (write(out, "x", 1) != 1)
			puts("no write");
}

static void readers_beside_pollers(void)
{
	new_pipe();
	start(1, poller, NULL);
	start(1, reader, NULL);
	/* One byte for each: a poller that comes to look after the reader finds the second. */
	send(2);
	expect("a poller, then a reader", 2);
	new_pipe();
	start(1, watcher, NULL);
	start(1, reader, NULL);
	send(1);
	expect("a watcher, then a reader", 1);
	start(2, reader, NULL);
	start(2, watcher, NULL);
	send(2);
	expect("readers, then watchers", 2);
	new_pipe();
	start(3, reader, NULL);
	if (write(out, "xyz", 3) != 3)
		puts("no write");
	expect("three readers of one write", 3);
	start(3, reader, NULL);
	close(out);
	expect("three readers of a pipe that is closed", 3);
}

static void writers_beside_pollers(void)
{
	static char bytes[65536];

	new_pipe();
	fill();
	start(2, watcher, "out");
	start(1, writer, NULL);
	if (read(in, bytes, PAGE) != PAGE)
		puts("no read");
	expect("watchers, then a writer", 1);
	new_pipe();
	fill();
	start(3, writer, NULL);
	if (read(in, bytes, sizeof bytes) != sizeof bytes)
		puts("no read");
	expect("three writers, all is read", 3);
	new_pipe();
	fill();
	start(3, poller, "out");
	if (read(in, bytes, sizeof bytes) != sizeof bytes)
		puts("no read");
	expect("three pollers for room", 3);
	fill();
	start(3, poller, "out");
	close(in);
	expect("three pollers for room nobody makes", 3);
}

static void pollers_alone(void)
{
	new_pipe();
	start(5, poller, NULL);
	send(1);
	expect("five pollers, one byte", 5);
	new_pipe();
	start(2, selector, NULL);
	start(2, poller, NULL);
	send(1);
	expect("two select, two poll", 4);
	new_pipe();
	start(1, reader, NULL);
	start(3, poller, NULL);
	send(2);
	expect("a reader and three pollers, two bytes", 4);
	new_pipe();
	start(4, poller, NULL);
	close(out);
	expect("four pollers of a pipe that is closed", 4);
	new_pipe();
	for (int child = 0; child < 3; child++)
		if (fork() == 0)
			_exit(poller(NULL) != NULL);
	sleep_ms(50);
	send(1);
	expect("three processes", 3);
	while (wait(NULL) > 0)
		;
}

static void who_is_killed_passes_it_on(void)
{
	for (int polls = 0; polls < 2; polls++) {
		pid_t child;

		new_pipe();
		child = fork();
		if (child == 0) {
			if (polls)
				watcher(NULL);
			_exit(reader(NULL) != NULL);
		}
		sleep_ms(40);
		start(1, reader, NULL);
		kill(child, SIGKILL);
		send(1);
		waitpid(child, NULL, 0);
		/* The child may have been faster. */
		if (*done == 0)
			send(1);
		expect("the one that was not killed", 1);
	}
}

static void other_files(void)
{
	uint64_t one = 1, three = 3;
	int master;

	out = -1;
	in = eventfd(0, 0);
	start(1, watcher, NULL);
	start(1, reader, NULL);
	if (write(in, &one, 8) != 8)
		puts("no write");
	expect("an event counter", 1);
	in = eventfd(0, EFD_SEMAPHORE);
	start(3, reader, NULL);
	if (write(in, &three, 8) != 8)
		puts("no write");
	expect("an event counter, one by one", 3);
	if (openpty(&master, &in, NULL, NULL, NULL))
		puts("no terminal");
	start(1, watcher, NULL);
	start(1, reader, NULL);
	if (write(master, "hi\n", 3) != 3)
		puts("no write");
	expect("a terminal", 1);
	if (mkfifo("fifo", 0600))
		puts("no FIFO");
	in = out = open("fifo", O_RDWR);
	start(1, watcher, NULL);
	start(3, reader, NULL);
	send(3);
	expect("a FIFO open for both", 3);
}

/* Every thread polls the same pipe a thousand times over. */
#define ENTRIES 1024
#define CROWD 128

static void *crowd(void *arg)
{
	struct pollfd *files = calloc(ENTRIES, sizeof *files);

	(void)arg;
	for (int i = 0; i < ENTRIES; i++)
		files[i] = (struct pollfd){in, POLLIN, 0};
	if (poll(files, ENTRIES, PATIENCE) == ENTRIES)
		another();
	free(files);
	return NULL;
}

static void many_pollers(void)
{
	pthread_attr_t attributes;
	pthread_t thread;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 65536);
	new_pipe();
	for (int i = 0; i < CROWD; i++)
		if (pthread_create(&thread, &attributes, crowd, NULL))
			puts("no thread");
	sleep_ms(300);
	send(1);
	expect("a hundred and thirty thousand entries", CROWD);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	enter_folder("wakeups");
	done = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	/* Each in a process of its own: threads may be left over. */
	show_status("readers beside pollers", CHILD(readers_beside_pollers()));
	show_status("writers beside pollers", CHILD(writers_beside_pollers()));
	show_status("pollers alone", CHILD(pollers_alone()));
	show_status("who is killed", CHILD(who_is_killed_passes_it_on()));
	show_status("other files", CHILD(other_files()));
	show_status("many pollers", CHILD(many_pollers()));
	return 0;
}
