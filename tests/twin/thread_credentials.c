/*
 * Credentials belong to threads: a raw call changes the calling thread alone, the C library's changes all. Who is asked
 * where one thread is meant, and who where a process is.
 */
#include "twin.h"
#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

static int gettid_(void)
{
	return syscall(SYS_gettid);
}

/* Real, effective, saved and file system ids of a thread as /proc shows them. */
static void show_status_file(const char *what, int pid, int tid)
{
	char path[64], line[256];

	if (tid)
		snprintf(path, sizeof path, "/proc/%d/task/%d/status", pid, tid);
	else
		snprintf(path, sizeof path, "/proc/%d/status", pid);
	FILE *file = fopen(path, "r");
	printf("%s:", what);
	while (file && fgets(line, sizeof line, file))
		if (!strncmp(line, "Uid:", 4) || !strncmp(line, "Gid:", 4) || !strncmp(line, "Groups:", 7) ||
		    !strncmp(line, "CapEff:", 7) || !strncmp(line, "NoNewPrivs:", 11)) {
			for (char *c = line; *c; c++)
				if (*c == '\t' || *c == '\n')
					*c = ' ';
			printf(" %s", line);
		}
	printf("\n");
	if (file)
		fclose(file);
}

static void show_owner(const char *what, int pid, int tid, const char *name)
{
	char path[64];
	struct stat stat_;

	if (tid)
		snprintf(path, sizeof path, "/proc/%d/task/%d/%s", pid, tid, name);
	else
		snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	if (stat(path, &stat_))
		printf("%s: %s\n", what, strerrorname_np(errno));
	else
		printf("%s: %d:%d\n", what, stat_.st_uid, stat_.st_gid);
}

static void show_ids(const char *when)
{
	uid_t r, e, s;
	gid_t gr, ge, gs;

	syscall(SYS_getresuid, &r, &e, &s);
	syscall(SYS_getresgid, &gr, &ge, &gs);
	printf("%s: uid %d %d %d, gid %d %d %d, %d groups\n", when, r, e, s, gr, ge, gs, getgroups(0, NULL));
}

static unsigned long long effective(int tid)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, tid};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return 1;
	return data[0].effective | (unsigned long long)data[1].effective << 32;
}

/* Runs a function in a thread and waits for it to be done, but not for its end. */
static pthread_barrier_t barrier;
static int its_tid;

static void meet(void)
{
	pthread_barrier_wait(&barrier);
}

static void in_thread(void *(*act)(void *), void *argument)
{
	pthread_t thread;

	pthread_create(&thread, NULL, act, argument);
	pthread_join(thread, NULL);
}

static void *becomes_a_user(void *unused)
{
	gid_t groups[] = {7, 5, 9};

	its_tid = gettid_();
	TRY(syscall(SYS_setgroups, 3, groups));
	TRY(syscall(SYS_setresgid, 1001, 1002, 1003));
	TRY(syscall(SYS_setresuid, 1000, 1000, 1000));
	show_ids("the thread");
	TRY(open("secret", O_RDONLY));
	TRY(syscall(SYS_setuid, 0));
	TRY(kill(getppid(), 0));
	TRY(kill(getpid(), 0));
	TRY(setpriority(PRIO_PROCESS, getppid(), 5));
	TRY(getpriority(PRIO_USER, 0));
	show_status("its child", CHILD(show_ids("forked")));
	meet();
	meet();
	return unused;
}

static void *changes_other_things(void *unused)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {{0}};

	its_tid = gettid_();
	TRY(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
	TRY(prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0));
	TRY(prctl(PR_CAPBSET_READ, CAP_SYS_TIME, 0, 0, 0));
	TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	TRY(setfsuid(77));
	TRY(setfsuid(-1));
	data[0].effective = data[0].permitted = 1 << CAP_KILL;
	TRY(syscall(SYS_capset, &header, data));
	printf("effective %llx\n", effective(0));
	header.pid = getpid();
	TRY(syscall(SYS_capset, &header, data));
	meet();
	meet();
	return unused;
}

static void *with_glibc(void *unused)
{
	TRY(setgroups(0, NULL));
	TRY(setresgid(2001, 2001, 2001));
	TRY(setresuid(2000, 2000, 2000));
	show_ids("the thread");
	return unused;
}

static void *executes(void *unused)
{
	syscall(SYS_setresgid, 3001, 3001, 3001);
	syscall(SYS_setresuid, 3000, 3000, 3000);
	execl("/bin/sh", "sh", "-c", "grep -E '^(Uid|Gid|CapEff)' /proc/$$/status", NULL);
	return unused;
}

static void *leader_gone(void *leader)
{
	pthread_join(*(pthread_t *)leader, NULL);
	syscall(SYS_setresuid, 4000, 4000, 4000);
	/* The leader, a zombie, still answers for the process. */
	show_ids("the thread that is left");
	show_status_file("its process", getpid(), 0);
	exit(0);
}

static void *sleeper(void *unused)
{
	its_tid = gettid_();
	syscall(SYS_setresuid, 1000, 1000, 1000);
	meet();
	for (;;)
		pause();
	return unused;
}

/* A process whose leader is root's and whose other thread is user 1000's, and those who want to signal them. */
static void signals(void)
{
	int pipes[2], numbers[2];
	struct rlimit limit;
	cpu_set_t first;

	CPU_ZERO(&first);
	CPU_SET(0, &first);
	TRY(pipe(pipes));
	pid_t target = fork();
	if (target == 0) {
		pthread_t thread;

		pthread_barrier_init(&barrier, NULL, 2);
		pthread_create(&thread, NULL, sleeper, NULL);
		meet();
		numbers[0] = getpid();
		numbers[1] = its_tid;
		if (write(pipes[1], numbers, sizeof numbers) != sizeof numbers)
			_exit(1);
		for (;;)
			pause();
	}
	if (read(pipes[0], numbers, sizeof numbers) != sizeof numbers)
		return;
	int pid = numbers[0], tid = numbers[1];
	show_status("user 1000", CHILD(
		setresuid(1000, 1000, 1000);
		TRY(kill(pid, 0));
		TRY(kill(tid, 0));
		TRY(syscall(SYS_tgkill, pid, pid, 0));
		TRY(syscall(SYS_tgkill, pid, tid, 0));
		TRY(syscall(SYS_tkill, tid, 0));
		TRY(kill(pid, SIGCONT));
		TRY(kill(tid, SIGTERM + 100));
		TRY(sched_setaffinity(pid, 8, &first));
		TRY(sched_setaffinity(tid, 8, &first));
		TRY(prlimit(pid, RLIMIT_NOFILE, NULL, &limit));
		TRY(getpriority(PRIO_PROCESS, tid));
		setsid();
		TRY(kill(pid, SIGCONT));
		TRY(syscall(SYS_tgkill, pid, pid, SIGCONT));
		TRY(syscall(SYS_tgkill, pid, tid, SIGCONT));
	));
	show_status("user 1001", CHILD(
		setresuid(1001, 1001, 1001);
		TRY(kill(tid, 0));
		TRY(syscall(SYS_tgkill, pid, tid, 0));
		TRY(kill(pid, SIGCONT));
		TRY(kill(pid, SIGTERM));
		TRY(sched_setaffinity(tid, 8, &first));
		TRY(prlimit(tid, RLIMIT_NOFILE, NULL, &limit));
	));
	IS(effective(pid) != 0);
	IS(effective(tid) == 0);
	show_owner("its files", pid, 0, "");
	show_owner("its thread's", pid, tid, "");
	kill(target, SIGKILL);
	waitpid(target, NULL, 0);
}

int main(void)
{
	pthread_t thread, self = pthread_self();

	setvbuf(stdout, NULL, _IOLBF, 4096);
	enter_folder("thread_credentials");
	chmod(".", 0777);
	make_file("secret", "x");
	chmod("secret", 0600);
	pthread_barrier_init(&barrier, NULL, 2);

	pid_t child = fork();
	if (child == 0) {
		pthread_create(&thread, NULL, becomes_a_user, NULL);
		meet();
		show_ids("the leader");
		YES(open("secret", O_RDONLY));
		TRY(prctl(PR_GET_DUMPABLE));
		show_status_file("/proc/PID", getpid(), 0);
		show_status_file("/proc/PID/task/PID", getpid(), getpid());
		show_status_file("/proc/PID/task/TID", getpid(), its_tid);
		show_status_file("/proc/TID", its_tid, 0);
		show_owner("/proc/PID", getpid(), 0, "");
		show_owner("/proc/PID/task/TID", getpid(), its_tid, "");
		prctl(PR_SET_DUMPABLE, 1);
		show_owner("/proc/PID", getpid(), 0, "status");
		show_owner("/proc/PID/task/TID", getpid(), its_tid, "status");
		show_owner("/proc/PID/task/PID", getpid(), getpid(), "status");
		IS(effective(0) != 0);
		IS(effective(its_tid) == 0);
		IS(effective(getpid()) != 0);
		show_status("the leader's child", CHILD(show_ids("forked")));
		meet();
		pthread_join(thread, NULL);
		_exit(0);
	}
	int status;
	waitpid(child, &status, 0);
	show_status("a thread becomes a user", status);

	show_status("other things", CHILD(
		pthread_create(&thread, NULL, changes_other_things, NULL);
		meet();
		TRY(prctl(PR_GET_KEEPCAPS));
		TRY(prctl(PR_CAPBSET_READ, CAP_SYS_TIME, 0, 0, 0));
		TRY(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
		TRY(setfsuid(-1));
		IS(effective(0) != 1 << CAP_KILL);
		IS(effective(its_tid) == 1 << CAP_KILL);
		show_status("a child of the leader", CHILD(TRY(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))));
		meet();
		pthread_join(thread, NULL);
	));
	show_status("through the C library", CHILD(in_thread(with_glibc, NULL); show_ids("the leader")));
	show_status("execve by a thread", CHILD(in_thread(executes, NULL)));
	fflush(stdout);
	child = fork();
	if (child == 0) {
		pthread_create(&thread, NULL, leader_gone, &self);
		pthread_exit(NULL);
	}
	waitpid(child, &status, 0);
	show_status("a leader that has ended", status);
	signals();
	return 0;
}
