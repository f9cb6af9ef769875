/*
 * Signals in storms, and races between all that may happen to a process at once.
 *
 * usage: signals [PART [SECONDS]]
 * PART: storm, kills, stops, waits, queue, alarms, masks, groups, vforks, frames, or all. SECONDS (2) each.
 */
#include "hostile.h"
#include <sched.h>

static double seconds = 2;

static uint64_t end_of_part(void)
{
	return now_ns() + (uint64_t)(seconds * 1e9);
}

static _Atomic unsigned long *received;

static void count(int number)
{
	atomic_fetch_add(&received[number], 1);
}

static void count_all(void)
{
	struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};

	for (int number = 1; number <= SIGRTMAX; number++)
		sigaction(number, &action, NULL);
}

/* Processes that send every signal to each other and to themselves. */
static void storm(void)
{
	enum { MEMBERS = 8 };
	pid_t members[MEMBERS];
	int gate[2];

	received = shared_memory(PAGE);
	MUST(pipe(gate) == 0);
	count_all();
	for (int i = 0; i < MEMBERS; i++) {
		members[i] = fork();
		if (members[i] == 0) {
			Random random = random_from(i);
			pid_t all[MEMBERS];

			while (read(gate[0], all, sizeof all) < 0)
				;
			uint64_t end = end_of_part();
			do {
				int number = 1 + random_below(&random, SIGRTMAX);

				if (number != SIGKILL && number != SIGSTOP && number != 32 && number != 33)
					kill(all[random_below(&random, MEMBERS)], number);
			} while (now_ns() < end);
			sleep_ms(200);
			_exit(0);
		}
	}
	for (int i = 0; i < MEMBERS; i++)
		MUST(write(gate[1], members, sizeof members) == sizeof members);
	for (int i = 0; i < MEMBERS; i++) {
		int status = 0;

		MUST(waitpid(members[i], &status, 0) == members[i]);
		if (status)
			wrong("a member of the storm ended with %#x", status);
	}
	unsigned long sum = 0;
	for (int number = 1; number <= SIGRTMAX; number++)
		sum += received[number];
	printf("%lu signals\n", sum);
	MUST(sum > 0);
	close(gate[0]);
	close(gate[1]);
	for (int number = 1; number <= SIGRTMAX; number++)
		signal(number, SIG_DFL);
	munmap(received, PAGE);
}

/* Several kill the same child at once, while it ends by itself, or executes, or forks. */
static void kills(void)
{
	Random random = random_from(5);
	unsigned long rounds = 0, by_signal = 0;

	for (uint64_t end = end_of_part(); now_ns() < end; rounds++) {
		pid_t killers[3], child = fork();

		if (child == 0) {
			char *const arguments[] = {"signals", "--exit", NULL};

			switch (rounds % 4) {
			case 0:
				_exit(0);
			case 1:
				execve("/proc/self/exe", arguments, environ);
				_exit(1);
			case 2:
				for (;;)
					if (fork() == 0)
						_exit(0);
			default:
				for (;;)
					sched_yield();
			}
		}
		for (size_t i = 0; i < COUNT(killers); i++) {
			killers[i] = fork();
			if (killers[i] == 0) {
				usleep(random_below(&random, 500));
				kill(child, i % 2 ? SIGKILL : SIGTERM);
				_exit(0);
			}
			random_next(&random);
		}
		int status = 0;
		MUST(waitpid(child, &status, 0) == child);
		if (WIFSIGNALED(status))
			by_signal++;
		else if (rounds % 4 > 1)
			wrong("a child that never ends ended with %#x", status);
		for (size_t i = 0; i < COUNT(killers); i++)
			MUST(waitpid(killers[i], &status, 0) == killers[i] && status == 0);
	}
	printf("%lu killed, %lu of them by a signal\n", rounds, by_signal);
}

/* Stops and continues meet: each is reported once, and nothing stays stopped. */
static void stops(void)
{
	Random random = random_from(6);
	unsigned long stopped = 0, continued = 0, rounds = 0;
	volatile uint64_t *progress = shared_memory(PAGE);
	pid_t child = fork();

	if (child == 0) {
		for (;;) {
			progress[0]++;
			if (getppid() == 1)
				_exit(0);
		}
	}
	for (uint64_t end = end_of_part(); now_ns() < end; rounds++) {
		static const int numbers[] = {SIGSTOP, SIGCONT, SIGTSTP, SIGCONT, SIGTTIN};
		int status = 0;

		MUST(kill(child, numbers[random_below(&random, COUNT(numbers))]) == 0);
		if (random_below(&random, 3) == 0)
			continue;
		pid_t found = waitpid(child, &status, WUNTRACED | WCONTINUED | WNOHANG);
		if (found == child) {
			if (WIFSTOPPED(status))
				stopped++;
			else if (WIFCONTINUED(status))
				continued++;
			else
				wrong("status %#x", status);
		}
	}
	/* Once continued for good it runs, whatever came before. */
	MUST(kill(child, SIGCONT) == 0);
	int status = 0;
	while (waitpid(child, &status, WUNTRACED | WCONTINUED | WNOHANG) > 0)
		;
	MUST(kill(child, SIGSTOP) == 0);
	MUST(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	uint64_t seen = progress[0];
	sleep_ms(20);
	MUST(progress[0] == seen);
	MUST(waitpid(child, &status, WUNTRACED | WNOHANG) == 0);
	MUST(kill(child, SIGCONT) == 0);
	MUST(waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status));
	for (int i = 0; i < 200 && progress[0] == seen; i++)
		sleep_ms(10);
	MUST(progress[0] != seen);
	MUST(kill(child, SIGSTOP) == 0 && kill(child, SIGKILL) == 0);
	MUST(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	printf("%lu rounds, %lu stops and %lu continues seen\n", rounds, stopped, continued);
}

static void *wait_for_any(void *argument)
{
	unsigned long *own = argument;

	for (;;) {
		int status;
		pid_t child = waitpid(-1, &status, 0);

		if (child > 0)
			(*own)++;
		else if (errno == ECHILD)
			return NULL;
	}
}

/* Several threads wait for the children of one process: each child is given to one of them. */
static void waits(void)
{
	unsigned long made = 0, collected = 0;

	for (uint64_t end = end_of_part(); now_ns() < end;) {
		pthread_t all[4];
		unsigned long own[4] = {0};

		for (int i = 0; i < 20; i++) {
			pid_t child = fork();

			if (child == 0) {
				if (i % 4 == 0)
					usleep(1000);
				_exit(i);
			}
			MUST(child > 0);
			made++;
		}
		for (size_t i = 0; i < COUNT(all); i++)
			pthread_create(&all[i], NULL, wait_for_any, &own[i]);
		for (size_t i = 0; i < COUNT(all); i++) {
			pthread_join(all[i], NULL);
			collected += own[i];
		}
	}
	printf("%lu children\n", made);
	MUST(made == collected);
}

/* Real-time signals are queued: none is lost, and they come in order. */
static int wanted_value;
static unsigned long out_of_order;

static void check_value(int number, siginfo_t *information, void *context)
{
	(void)number;
	(void)context;
	if (information->si_value.sival_int != wanted_value)
		out_of_order++;
	wanted_value++;
}

static void queue(void)
{
	struct sigaction action = {.sa_sigaction = check_value, .sa_flags = SA_SIGINFO};
	struct rlimit limit = {300, 300};
	sigset_t blocked;

	sigaction(SIGRTMIN + 3, &action, NULL);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGRTMIN + 3);
	for (int round = 0; round < 20; round++) {
		sigprocmask(SIG_BLOCK, &blocked, NULL);
		wanted_value = 0;
		for (int i = 0; i < 200; i++)
			MUST(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = i}) == 0);
		sigprocmask(SIG_UNBLOCK, &blocked, NULL);
		MUST(wanted_value == 200);
	}
	MUST(out_of_order == 0);
	pid_t child = fork();
	if (child == 0) {
		int queued = 0;

		setrlimit(RLIMIT_SIGPENDING, &limit);
		sigprocmask(SIG_BLOCK, &blocked, NULL);
		while (queued < 100000 && sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = queued}) == 0)
			queued++;
		if (errno != EAGAIN)
			wrong("sigqueue: %s", strerrorname_np(errno));
		MUST(queued >= 250 && queued <= 300);
		_exit(0);
	}
	MUST(waitpid(child, NULL, 0) == child);
}

/* Timers of many processes, and sleeps: none is early, none is lost. */
static void alarms(void)
{
	enum { MEMBERS = 20 };
	pid_t members[MEMBERS];

	received = shared_memory(PAGE);
	for (int i = 0; i < MEMBERS; i++) {
		members[i] = fork();
		if (members[i] == 0) {
			struct itimerval often = {{0, 2000 + i * 100}, {0, 1000}};
			uint64_t latest = 0;

			count_all();
			setitimer(ITIMER_REAL, &often, NULL);
			for (uint64_t end = end_of_part(); now_ns() < end;) {
				uint64_t start = now_ns();
				struct timespec time = {0, 3000000}, rest;
				int result = nanosleep(&time, &rest);
				uint64_t slept = now_ns() - start;

				if (result == 0 && slept < 3000000)
					wrong("slept %lu ns of 3 ms", slept);
				if (result < 0 && slept + rest.tv_nsec < 3000000)
					wrong("slept %lu ns, %ld left, of 3 ms", slept, rest.tv_nsec);
				latest = slept > latest ? slept : latest;
			}
			_exit(latest > 10000000000ull);
		}
	}
	for (int i = 0; i < MEMBERS; i++) {
		int status = 0;

		MUST(waitpid(members[i], &status, 0) == members[i] && status == 0);
	}
	printf("%lu alarms\n", (unsigned long)received[SIGALRM]);
	MUST(received[SIGALRM] > 20);
	munmap(received, PAGE);
}

/* sigsuspend and sigtimedwait never miss what another process sends. */
static void masks(void)
{
	sigset_t usual, open, waited;
	unsigned long rounds = 0;
	pid_t parent = getpid();

	received = shared_memory(PAGE);
	struct sigaction action = {.sa_handler = count};
	sigaction(SIGUSR1, &action, NULL);
	sigemptyset(&usual);
	sigaddset(&usual, SIGUSR1);
	sigaddset(&usual, SIGUSR2);
	sigprocmask(SIG_BLOCK, &usual, &open);
	sigdelset(&open, SIGUSR1);
	sigemptyset(&waited);
	sigaddset(&waited, SIGUSR2);
	pid_t child = fork();
	if (child == 0) {
		for (;;) {
			siginfo_t information;

			sigsuspend(&open);
			if (kill(parent, SIGUSR2))
				_exit(0);
			if (sigwaitinfo(&waited, &information) != SIGUSR2 || information.si_pid != parent)
				wrong("sigwaitinfo: %s from %d", strerrorname_np(errno), information.si_pid);
			kill(parent, SIGUSR1);
		}
	}
	for (uint64_t end = end_of_part(); now_ns() < end; rounds++) {
		struct timespec limit = {20, 0};

		MUST(kill(child, SIGUSR1) == 0);
		MUST(sigtimedwait(&waited, NULL, &limit) == SIGUSR2);
		MUST(kill(child, SIGUSR2) == 0);
		MUST(sigsuspend(&open) == -1 && errno == EINTR);
	}
	printf("%lu rounds\n", rounds);
	MUST(received[SIGUSR1] >= 2 * rounds);
	kill(child, SIGKILL);
	MUST(waitpid(child, NULL, 0) == child);
	sigprocmask(SIG_UNBLOCK, &usual, NULL);
	munmap(received, PAGE);
}

/* A group is signalled while its members fork: no child escapes. */
static void groups(void)
{
	Random random = random_from(8);
	unsigned long rounds = 0;

	for (uint64_t end = end_of_part(); now_ns() < end; rounds++) {
		pid_t leader = fork();

		if (leader == 0) {
			setpgid(0, 0);
			for (int i = 0; i < 3; i++)
				fork();
			for (;;) {
				pid_t child = fork();

				if (child == 0) {
					usleep(50);
					_exit(0);
				}
				if (child > 0)
					waitpid(child, NULL, 0);
			}
		}
		setpgid(leader, leader);
		usleep(random_below(&random, 10000));
		MUST(kill(-leader, SIGKILL) == 0);
		MUST(waitpid(leader, NULL, 0) == leader);
		/* One signal got them all: what is left are zombies on their way to init. */
		int tries = 0;
		while (kill(-leader, 0) == 0 && tries++ < 500)
			sleep_ms(10);
		if (tries >= 500)
			wrong("somebody in group %d escaped", leader);
	}
	printf("%lu groups\n", rounds);
}

/* A vfork's parent waits, whatever happens to it and to the child. */
static void vforks(void)
{
	Random random = random_from(9);
	volatile unsigned long rounds = 0;

	for (volatile uint64_t end = end_of_part(); now_ns() < end; rounds++) {
		pid_t middle = fork();

		if (middle == 0) {
			volatile int shared = 0;
			pid_t child = vfork();

			if (child == 0) {
				shared = 1;
				if (rounds % 3 == 0) {
					struct timespec time = {0, 2000000};
					nanosleep(&time, NULL);
				}
				_exit(3);
			}
			int status = 0;
			if (!shared)
				wrong("the parent of a vfork didn't wait");
			waitpid(child, &status, 0);
			_exit(WEXITSTATUS(status));
		}
		int status = 0;
		if (rounds % 2) {
			usleep(random_below(&random, 2000));
			kill(middle, rounds % 4 == 1 ? SIGKILL : SIGSTOP);
			kill(middle, SIGCONT);
		}
		MUST(waitpid(middle, &status, 0) == middle);
		if (rounds % 4 != 1 && status != 0x300)
			wrong("status %#x after a vfork", status);
	}
	printf("%lu rounds\n", rounds);
}

static _Atomic int depth, deepest;

static void nest(int number)
{
	int now = atomic_fetch_add(&depth, 1) + 1;

	if (now > deepest)
		deepest = now;
	if (now < 100)
		raise(number == SIGUSR1 ? SIGUSR2 : SIGUSR1);
	atomic_fetch_sub(&depth, 1);
}

static void recurse(int number)
{
	raise(number);
}

/* Handlers within handlers, until the stack is full. */
static void frames(void)
{
	struct sigaction action = {.sa_handler = nest, .sa_flags = SA_NODEFER};

	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
	raise(SIGUSR1);
	MUST(deepest == 100 && depth == 0);
	for (int alternate = 0; alternate < 2; alternate++) {
		pid_t child = fork();

		if (child == 0) {
			static char other[1 << 15];
			stack_t stack = {.ss_sp = other, .ss_size = sizeof other};
			struct sigaction endless = {.sa_handler = recurse, .sa_flags = SA_NODEFER};

			if (alternate)
				endless.sa_flags |= SA_ONSTACK;
			sigaltstack(&stack, NULL);
			signal(SIGSEGV, SIG_DFL);
			sigaction(SIGUSR1, &endless, NULL);
			raise(SIGUSR1);
			_exit(1);
		}
		int status = 0;
		MUST(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	}
}

int main(int argc, char **argv)
{
	static const Part parts[] = {
		{"storm", storm},   {"kills", kills}, {"stops", stops},	  {"waits", waits},   {"queue", queue},
		{"alarms", alarms}, {"masks", masks}, {"groups", groups}, {"vforks", vforks}, {"frames", frames},
	};

	if (argc > 1 && strcmp(argv[1], "--exit") == 0)
		return 0;
	if (argc > 2)
		seconds = atof(argv[2]);
	run_parts(parts, COUNT(parts), argc > 1 ? argv[1] : NULL);
	return verdict();
}
