/*
 * RLIMIT_NPROC and RLIMIT_SIGPENDING: what is counted for a user over all his processes and threads, who is exempt, and
 * what is done when he has too many.
 */
#include "twin.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <linux/capability.h>

#define REAL_TIME (SIGRTMIN + 1)

static int to_child[2];

static void limit(int which, rlim_t soft)
{
	struct rlimit limit;

	getrlimit(which, &limit);
	limit.rlim_cur = soft;
	if (limit.rlim_max < soft)
		limit.rlim_max = soft;
	if (setrlimit(which, &limit))
		printf("setrlimit: %s\n", strerrorname_np(errno));
}

static void *waits(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static void *ends(void *unused)
{
	return unused;
}

/* As many threads as there may be. */
static void threads(const char *what)
{
	pthread_t thread;
	pthread_attr_t attributes;
	int made = 0, error;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 65536);
	while (made < 20 && !(error = pthread_create(&thread, &attributes, waits, NULL)))
		made++;
	printf("%s: %d threads, then %s\n", what, made, made < 20 ? strerrorname_np(error) : "enough");
}

/* As many processes as there may be, which then end. */
static void processes(const char *what)
{
	pid_t made[20];
	int count = 0, error = 0;

	while (count < 20) {
		made[count] = fork();
		if (made[count] == 0)
			waits(NULL);
		if (made[count] < 0) {
			error = errno;
			break;
		}
		count++;
	}
	printf("%s: %d processes, then %s\n", what, count, error ? strerrorname_np(error) : "enough");
	while (count-- > 0) {
		kill(made[count], SIGKILL);
		waitpid(made[count], NULL, 0);
	}
}

static void become(int user)
{
	if (setresuid(user, user, user))
		printf("setresuid: %s\n", strerrorname_np(errno));
}

static void keep_capability(int capability)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {{0}};

	prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	become(3105);
	data[0].effective = data[0].permitted = 1u << capability;
	TRY(syscall(SYS_capset, &header, data));
}

static void *executes(void *unused)
{
	execl("/bin/true", "true", NULL);
	printf("execve: %s\n", strerrorname_np(errno));
	exit(1);
	return unused;
}

static void too_many(void)
{
	show_status("threads", CHILD(limit(RLIMIT_NPROC, 5); become(3101); threads("user")));
	show_status("processes", CHILD(limit(RLIMIT_NPROC, 5); become(3101); processes("user"); processes("again")));
	show_status("both", CHILD(limit(RLIMIT_NPROC, 5); become(3101); pthread_t thread;
				  pthread_create(&thread, NULL, waits, NULL); processes("with a thread")));
	show_status("two processes of one user", CHILD(become(3102); pid_t other = fork(); if (other == 0) {
		threads("without a limit"); if (write(to_child[1], "x", 1) != 1) _exit(1); waits(NULL); } char byte;
		if (read(to_child[0], &byte, 1) != 1) _exit(1); limit(RLIMIT_NPROC, 22); threads("20 and its leader elsewhere");
		limit(RLIMIT_NPROC, 23); processes("two here"); kill(other, SIGKILL); waitpid(other, NULL, 0); processes("it has ended")));
	show_status("threads that ended", CHILD(limit(RLIMIT_NPROC, 2); become(3103); pthread_t thread; int good = 0;
		for (int i = 0; i < 50; i++) { int error; while ((error = pthread_create(&thread, NULL, ends, NULL)) == EAGAIN) sleep_ms(1);
			good += !error; pthread_join(thread, NULL); } printf("%d\n", good)));
	show_status("a zombie counts", CHILD(limit(RLIMIT_NPROC, 2); become(3104); pid_t child = fork(); if (child == 0) _exit(0);
		siginfo_t info; waitid(P_PID, child, &info, WEXITED | WNOWAIT);
		pid_t more = fork(); if (more == 0) _exit(0); printf("%s\n", more < 0 ? strerrorname_np(errno) : "made"); waitpid(child, NULL, 0);
		child = fork(); if (child == 0) _exit(0); IS(child > 0)));
	show_status("root", CHILD(limit(RLIMIT_NPROC, 1); threads("root")));
	show_status("effective root", CHILD(limit(RLIMIT_NPROC, 1); setresuid(3105, 0, 0); threads("capable")));
	show_status("CAP_SYS_RESOURCE", CHILD(limit(RLIMIT_NPROC, 1); keep_capability(CAP_SYS_RESOURCE); threads("capable")));
	show_status("CAP_SYS_ADMIN", CHILD(limit(RLIMIT_NPROC, 1); keep_capability(CAP_SYS_ADMIN); threads("capable")));
	show_status("CAP_KILL", CHILD(limit(RLIMIT_NPROC, 1); keep_capability(CAP_KILL); threads("not so")));
	show_status("real root", CHILD(limit(RLIMIT_NPROC, 1); setresuid(0, 3106, 3106); threads("real root")));
	/* A user with too many can be become, but not execute. */
	show_status("execve", CHILD({
		pid_t other = fork();
		if (other == 0) {
			become(3107);
			threads("many");
			if (write(to_child[1], "x", 1) != 1)
				_exit(1);
			waits(NULL);
		}
		char byte;
		if (read(to_child[0], &byte, 1) != 1)
			_exit(1);
		limit(RLIMIT_NPROC, 20);
		show_status("too many", CHILD(become(3107); executes(NULL)));
		show_status("a thread of too many", CHILD(become(3107); pthread_t thread; int error = pthread_create(&thread, NULL, executes, NULL);
							  printf("%s\n", error ? strerrorname_np(error) : "made"); if (!error) waits(NULL)));
		show_status("a raised limit", CHILD(become(3107); limit(RLIMIT_NPROC, 40); executes(NULL)));
		show_status("just enough", CHILD(limit(RLIMIT_NPROC, 21); become(3107); executes(NULL)));
		show_status("lowered afterwards", CHILD(limit(RLIMIT_NPROC, 40); become(3107); limit(RLIMIT_NPROC, 1); executes(NULL)));
		show_status("and back", CHILD(setreuid(3107, 0); setreuid(0, 0); executes(NULL)));
		kill(other, SIGKILL);
		waitpid(other, NULL, 0);
		show_status("no longer", CHILD(become(3107); executes(NULL)));
	}));
}

static void show_queued(const char *what)
{
	char line[256];
	long queued = -1, most = -1;
	FILE *file = fopen("/proc/self/status", "r");

	while (file && fgets(line, sizeof line, file))
		if (sscanf(line, "SigQ: %ld/%ld", &queued, &most) == 2)
			break;
	if (file)
		fclose(file);
	printf("%s: %ld of %ld\n", what, queued, most);
}

static int queue(int signal, int value)
{
	return sigqueue(getpid(), signal, (union sigval){value});
}

/* As many as there may be of a signal, by one of the ways to send it. */
static void send(const char *what, int signal, int how)
{
	int sent = 0, error = 0;

	for (int i = 0; i < 50; i++) {
		int result = how == 0 ? kill(getpid(), signal) : how == 1 ? queue(signal, i) :
			syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signal);
		if (result)
			error = errno;
		else
			sent++;
	}
	printf("%s: %d sent%s%s\n", what, sent, error ? ", " : "", error ? strerrorname_np(error) : "");
}

static void take(const char *what)
{
	sigset_t all;
	siginfo_t info;
	int count = 0, lost = 0, sum = 0;

	sigfillset(&all);
	while (sigtimedwait(&all, &info, &(struct timespec){0}) > 0) {
		count++;
		lost += info.si_code == SI_USER && info.si_pid == 0;
		sum += info.si_code == SI_QUEUE ? info.si_value.sival_int : 0;
	}
	printf("%s: %d taken, %d without a reason, sum %d\n", what, count, lost, sum);
}

static void too_many_signals(void)
{
	sigset_t set;

	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	show_status("one process", CHILD(become(3201); limit(RLIMIT_SIGPENDING, 10); show_queued("none"); send("sigqueue", REAL_TIME, 1);
		show_queued("full"); send("kill", REAL_TIME, 0); send("kill of another", REAL_TIME + 1, 0); send("tgkill", REAL_TIME + 2, 2);
		send("standard kill", SIGUSR1, 0); send("standard tgkill", SIGUSR2, 2); send("standard sigqueue", SIGHUP, 1);
		show_queued("standard ones too"); take("all"); show_queued("none"); send("kill", REAL_TIME, 0); show_queued("full"); take("kill")));
	show_status("counted for the receiver", CHILD(become(3202); limit(RLIMIT_SIGPENDING, 10);
		pid_t other = fork(); if (other == 0) waits(NULL); sleep_ms(10); int sent = 0;
		while (sent < 50 && !sigqueue(other, REAL_TIME, (union sigval){1})) sent++; printf("%d, then %s\n", sent, strerrorname_np(errno));
		show_queued("one user"); TRY(queue(REAL_TIME, 1)); kill(other, SIGKILL); waitpid(other, NULL, 0); show_queued("it has ended");
		TRY(queue(REAL_TIME, 1)); take("one")));
	show_status("another user's", CHILD(limit(RLIMIT_SIGPENDING, 3); pid_t other = fork(); if (other == 0) { become(3203);
		if (write(to_child[1], "x", 1) != 1) _exit(1); waits(NULL); } char byte; if (read(to_child[0], &byte, 1) != 1) _exit(1); int sent = 0; while (sent < 50 && !sigqueue(other, REAL_TIME, (union sigval){1})) sent++;
		printf("%d, then %s\n", sent, strerrorname_np(errno)); kill(other, SIGKILL); waitpid(other, NULL, 0)));
	show_status("a signal discarded", CHILD(become(3204); limit(RLIMIT_SIGPENDING, 5); send("sigqueue", REAL_TIME, 1);
		signal(REAL_TIME, SIG_IGN); show_queued("ignored"); signal(REAL_TIME, SIG_DFL); send("again", REAL_TIME, 1);
		signal(SIGCHLD, SIG_DFL); take("all")));
	show_status("order", CHILD(become(3205); for (int i = 0; i < 3; i++) { queue(REAL_TIME + 1, 10 + i); queue(REAL_TIME, i); }
		siginfo_t info; while (sigtimedwait(&set, &info, &(struct timespec){0}) > 0) printf("%d %d\n", info.si_signo - REAL_TIME, info.si_value.sival_int)));
	show_status("no limit but 0", CHILD(become(3206); limit(RLIMIT_SIGPENDING, 0); TRY(queue(REAL_TIME, 1)); TRY(kill(getpid(), REAL_TIME));
		TRY(kill(getpid(), SIGUSR1)); show_queued("kill's"); take("two")));
	/* Many are taken in a time that grows with their number only. */
	show_status("many", CHILD(limit(RLIMIT_SIGPENDING, 50000); int sent = 0; for (int i = 0; i < 5000; i++) sent += !queue(REAL_TIME, 0);
		printf("%d\n", sent); take("many")));
}

int main(void)
{
	enter_folder("limits_of_users");
	if (pipe(to_child))
		return 1;
	too_many();
	too_many_signals();
	return 0;
}
