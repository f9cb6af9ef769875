/*
 * Record locks of fcntl(2), those of open file descriptions, and flock(2): whose they are, who is told what of them, and
 * that they end with their owner however it ends, and then let those go on who wait.
 */
#include "twin.h"
#include <sched.h>
#include <pthread.h>
#include <sys/file.h>
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

static int lock(int fd, int command, int type, int start, int length)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};

	return fcntl(fd, command, &lock);
}

/* Who is in the way of a write lock on a byte. */
static void look(const char *when, int fd, int start, pid_t expected)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = 1};

	if (fcntl(fd, F_GETLK, &lock))
		printf("%s: %s\n", when, strerrorname_np(errno));
	else if (lock.l_type == F_UNLCK)
		printf("%s: free\n", when);
	else
		printf("%s: %s %ld+%ld of %s\n", when, lock.l_type == F_RDLCK ? "read" : "write", (long)lock.l_start, (long)lock.l_len,
		       lock.l_pid == expected ? "the expected process" : lock.l_pid == -1 ? "a description" : "somebody else");
}

static int to_parent[2], to_child[2];

static void tell(int pipe[2])
{
	if (write(pipe[1], "x", 1) != 1)
		printf("cannot tell\n");
}

static void hear(int pipe[2])
{
	char byte;

	if (read(pipe[0], &byte, 1) != 1)
		printf("heard nothing\n");
}

enum ending { UNLOCK, CLOSE, CLOSE_OTHER, REPLACE, EXIT, KILLED, THREADS_KILLED, EXECUTE, EXECUTE_BY_THREAD, DOWNGRADE, ENDINGS };
static const char *const names[] = {"unlock", "close", "close of another descriptor", "dup2", "exit", "SIGKILL", "SIGKILL with threads",
	"execve", "execve by a thread", "downgrade"};

static void *executes(void *unused)
{
	(void)unused;
	execl("/bin/sleep", "sleep", "1", NULL);
	_exit(9);
}

static void *sleeps(void *unused)
{
	for (;;)
		pause();
	return unused;
}

/* A child locks, and ends its lock in some way; another one waits for it meanwhile. `inherited`: through a descriptor that
 * both have of their parent. */
static void end_lock(enum ending how, int inherited)
{
	int fd = open("ends", O_RDWR | O_CREAT | O_TRUNC, 0600);
	pid_t holder = fork();

	if (holder == 0) {
		pthread_t thread;

		if (!inherited)
			fd = open("ends", O_RDWR);
		lock(fd, F_SETLK, F_WRLCK, 1, 1);
		lock(fd, F_SETLK, F_WRLCK, 5, 10);
		tell(to_parent);
		if (how != KILLED)
			hear(to_child);
		switch (how) {
		case UNLOCK: lock(fd, F_SETLK, F_UNLCK, 0, 0); break;
		case CLOSE: close(fd); break;
		case CLOSE_OTHER: close(open("ends", O_RDONLY)); break;
		case REPLACE: dup2(0, fd); break;
		case EXIT: _exit(0);
		case KILLED: pause(); break;
		case THREADS_KILLED:
			pthread_create(&thread, NULL, sleeps, NULL);
			pthread_create(&thread, NULL, sleeps, NULL);
			raise(SIGKILL);
			break;
		case EXECUTE:
			fcntl(fd, F_SETFD, FD_CLOEXEC);
			executes(NULL);
			break;
		case EXECUTE_BY_THREAD:
			fcntl(fd, F_SETFD, FD_CLOEXEC);
			pthread_create(&thread, NULL, executes, NULL);
			pause();
			break;
		default: lock(fd, F_SETLK, F_RDLCK, 1, 1); lock(fd, F_SETLK, F_RDLCK, 5, 10); break;
		}
		/* It lives on until it is killed: what ends is only the lock. */
		pause();
		_exit(0);
	}
	hear(to_parent);
	look(names[how], fd, 1, holder);
	look(names[how], fd, 6, holder);
	pid_t waiter = fork();
	if (waiter == 0) {
		alarm(30);
		if (!inherited)
			fd = open("ends", O_RDWR);
		int kind = how == DOWNGRADE ? F_RDLCK : F_WRLCK;
		_exit(lock(fd, F_SETLKW, kind, 1, 1) ? 1 : lock(fd, F_SETLKW, kind, 7, 1) ? 2 : 0);
	}
	sleep_ms(20);
	if (how == KILLED)
		kill(holder, SIGKILL);
	else
		tell(to_child);
	int status;
	waitpid(waiter, &status, 0);
	show_status(names[how], status);
	kill(holder, SIGKILL);
	waitpid(holder, &status, 0);
	look("then", fd, 1, 0);
	close(fd);
}

static int shares(void *fd)
{
	lock(*(int *)fd, F_SETLK, F_WRLCK, 10, 1);
	return 0;
}

static int closes(void *fd)
{
	close(*(int *)fd);
	return 0;
}

static int unshares(void *fd)
{
	(void)fd;
	syscall(SYS_close_range, 1000, 1001, CLOSE_RANGE_UNSHARE);
	return 0;
}

static void *locks_in_thread(void *fd)
{
	lock(*(int *)fd, F_SETLK, F_WRLCK, 20, 5);
	return NULL;
}

static char stack[65536];

/* Runs a function in a process that shares descriptors with this one. */
static void share(const char *what, int (*act)(void *), int *fd)
{
	int status;
	pid_t child = clone(act, stack + sizeof stack, CLONE_FILES | SIGCHLD, fd);

	waitpid(child, &status, 0);
	show_status(what, status);
}

static void owners(void)
{
	int fd = open("owners", O_RDWR | O_CREAT, 0600);
	pthread_t thread;
	pid_t self = getpid();

	/* A process that shares the table owns the locks with the others, and its end does not end them. */
	share("sharing child locks", shares, &fd);
	show_status("another process", CHILD(TRY(lock(fd, F_SETLK, F_WRLCK, 10, 1)); look("it sees", fd, 10, self)));
	TRY(lock(fd, F_SETLK, F_RDLCK, 10, 1));
	share("a child unshares and ends", unshares, &fd);
	show_status("another process", CHILD(TRY(lock(fd, F_SETLK, F_WRLCK, 10, 1))));
	/* Threads are one owner, and a thread's end changes nothing. */
	pthread_create(&thread, NULL, locks_in_thread, &fd);
	pthread_join(thread, NULL);
	look("own locks are not in the way", fd, 20, self);
	show_status("another process", CHILD(look("the thread's", fd, 22, self)));
	/* A child inherits none, and closing what it inherits ends none. */
	show_status("a child", CHILD(look("as a child", fd, 22, self); close(fd)));
	show_status("another process", CHILD(look("afterwards", fd, 22, self)));
	/* What is open by name only holds no locks. */
	close(open("owners", O_PATH));
	show_status("another process", CHILD(look("after closing O_PATH", fd, 22, self)));
	/* The parent ends, the child is no owner. */
	show_status("locks of a parent that ends", CHILD({
		lock(fd, F_SETLK, F_WRLCK, 40, 1);
		if (fork() == 0) {
			hear(to_child);
			look("after the parent's end", fd, 40, 0);
			tell(to_parent);
			_exit(0);
		}
	}));
	tell(to_child);
	hear(to_parent);
	/* execve(2) keeps them with what it does not close. */
	lock(fd, F_SETLK, F_UNLCK, 0, 0);
	pid_t program = fork();
	if (program == 0) {
		lock(fd, F_SETLK, F_WRLCK, 60, 1);
		tell(to_parent);
		execl("/bin/sleep", "sleep", "30", NULL);
		_exit(1);
	}
	hear(to_parent);
	sleep_ms(50);
	look("in the new program", fd, 60, program);
	kill(program, SIGKILL);
	waitpid(program, NULL, 0);
	look("after it", fd, 60, program);
	/* Closing by a process that shares the table ends them. */
	TRY(lock(fd, F_SETLK, F_WRLCK, 1, 1));
	int second = open("owners", O_RDWR);
	share("sharing child closes", closes, &second);
	show_status("another process", CHILD(look("then", fd, 1, self)));
	close(fd);
}

static void ranges(void)
{
	int fd = open("ranges", O_RDWR | O_CREAT, 0600);
	pid_t self = getpid();

	TRY(lock(fd, F_SETLK, F_WRLCK, 0, 100));
	TRY(lock(fd, F_SETLK, F_UNLCK, 40, 20));
	show_status("cut", CHILD(look("0", fd, 0, self); look("50", fd, 50, self); look("60", fd, 60, self)));
	TRY(lock(fd, F_SETLK, F_RDLCK, 30, 40));
	show_status("replaced", CHILD(look("0", fd, 0, self); look("35", fd, 35, self); look("99", fd, 99, self);
				      TRY(lock(fd, F_SETLK, F_RDLCK, 35, 2)); TRY(lock(fd, F_SETLK, F_WRLCK, 35, 2))));
	TRY(lock(fd, F_SETLK, F_WRLCK, 30, 0));
	show_status("joined", CHILD(look("1000", fd, 1000, self)));
	TRY(lock(fd, F_SETLK, F_UNLCK, 0, 0));
	for (int i = 200; i >= 0; i -= 2)
		lock(fd, F_SETLK, F_WRLCK, i, 1);
	show_status("many", CHILD(struct flock all = {.l_type = F_WRLCK}; fcntl(fd, F_GETLK, &all);
				  printf("first %ld+%ld\n", (long)all.l_start, (long)all.l_len); look("101", fd, 101, self);
				  look("102", fd, 102, self)));
	close(open("ranges", O_RDONLY));
	show_status("none", CHILD(struct flock all = {.l_type = F_WRLCK}; fcntl(fd, F_GETLK, &all); IS(all.l_type == F_UNLCK)));
	int reading = open("ranges", O_RDONLY);
	TRY(lock(reading, F_SETLK, F_WRLCK, 0, 1));
	TRY(lock(reading, F_SETLK, F_RDLCK, 0, 1));
	TRY(lock(reading, F_SETLK, 77, 0, 1));
	TRY(lock(-1, F_SETLK, F_RDLCK, 0, 1));
	TRY(lock(fd, F_SETLK, F_RDLCK, 0, -1));
	close(reading);
	close(fd);
}

/* A circle of two is refused, and the one that was refused goes on. */
static void circle(void)
{
	int fd = open("circle", O_RDWR | O_CREAT, 0600);

	TRY(lock(fd, F_SETLK, F_WRLCK, 0, 1));
	pid_t other = fork();
	if (other == 0) {
		alarm(30);
		lock(fd, F_SETLK, F_WRLCK, 1, 1);
		tell(to_parent);
		_exit(lock(fd, F_SETLKW, F_WRLCK, 0, 1) ? 1 : 0);
	}
	hear(to_parent);
	/* Until it waits, there is no circle. */
	int result;
	do {
		sleep_ms(5);
		result = lock(fd, F_SETLK, F_WRLCK, 1, 1);
	} while (result == 0);
	sleep_ms(100);
	alarm(30);
	TRY(lock(fd, F_SETLKW, F_WRLCK, 1, 1));
	alarm(0);
	TRY(lock(fd, F_SETLK, F_UNLCK, 0, 1));
	int status;
	waitpid(other, &status, 0);
	show_status("the other", status);
	close(fd);
}

/* Locks of open file descriptions and of flock(2) end with the last descriptor, whoever has it. */
static void descriptions(void)
{
	int fd = open("descriptions", O_RDWR | O_CREAT, 0600), other = open("descriptions", O_RDWR);
	int copy = dup(fd);

	TRY(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 10));
	TRY(lock(other, F_OFD_SETLK, F_WRLCK, 0, 10));
	TRY(lock(copy, F_OFD_SETLK, F_WRLCK, 0, 10));
	look("seen by its process", other, 0, getpid());
	close(copy);
	TRY(lock(other, F_OFD_SETLK, F_WRLCK, 0, 10));
	pid_t child = fork();
	if (child == 0) {
		hear(to_child);
		_exit(0);
	}
	close(fd);
	TRY(lock(other, F_OFD_SETLK, F_WRLCK, 0, 10));
	pid_t waiter = fork();
	if (waiter == 0) {
		alarm(30);
		_exit(lock(other, F_OFD_SETLKW, F_WRLCK, 0, 10) ? 1 : 0);
	}
	sleep_ms(20);
	tell(to_child);
	int status;
	waitpid(child, &status, 0);
	waitpid(waiter, &status, 0);
	show_status("waiter of a description", status);
	/* The waiter's is this process's too: they share the description. */
	look("still", other, 0, getpid());
	close(other);

	fd = open("descriptions", O_RDWR);
	other = open("descriptions", O_RDONLY);
	TRY(flock(fd, LOCK_SH));
	TRY(flock(other, LOCK_SH | LOCK_NB));
	TRY(flock(fd, LOCK_EX | LOCK_NB));
	/* The failed conversion has cost the lock. */
	TRY(flock(other, LOCK_EX | LOCK_NB));
	TRY(flock(fd, LOCK_SH | LOCK_NB));
	TRY(flock(other, LOCK_UN));
	TRY(flock(fd, LOCK_EX));
	TRY(flock(fd, LOCK_EX));
	TRY(flock(fd, 67));
	/* LOCK_MAND does nothing any more. */
	TRY(flock(fd, 32));
	waiter = fork();
	if (waiter == 0) {
		alarm(30);
		int mine = open("descriptions", O_RDONLY);
		close(fd);
		_exit(flock(mine, LOCK_EX) ? 1 : 0);
	}
	child = fork();
	if (child == 0)
		for (;;)
			pause();
	sleep_ms(20);
	close(fd);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	waitpid(waiter, &status, 0);
	show_status("waiter of flock", status);
	close(other);
}

int main(void)
{
	enter_folder("record_locks");
	if (pipe(to_parent) || pipe(to_child))
		return 1;
	for (int how = 0; how < ENDINGS; how++)
		for (int inherited = 0; inherited < 2; inherited++)
			end_lock(how, inherited);
	owners();
	ranges();
	circle();
	descriptions();
	return 0;
}
