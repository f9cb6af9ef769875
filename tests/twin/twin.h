/*
 * What every twin program uses. A twin is run on Linux and on Orrery, and must print the same on both: every result and
 * errno of its topic, and nothing that differs from run to run (process ids, addresses, times).
 */
#ifndef TWIN_H
#define TWIN_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The page size of x86-64. */
#define PAGE 4096UL

/* Prints the call's text with its result, or errno's name; gives the result. */
#define TRY(call)                                                                                                      \
	({                                                                                                             \
		errno = 0;                                                                                             \
		long result_ = (long)(call);                                                                           \
		twin_result(#call, result_, 1);                                                                        \
		result_;                                                                                               \
	})

/* The same for results that differ from run to run: only that it succeeded. */
#define YES(call)                                                                                                      \
	({                                                                                                             \
		errno = 0;                                                                                             \
		long result_ = (long)(call);                                                                           \
		twin_result(#call, result_, 0);                                                                        \
		result_;                                                                                               \
	})

/* Prints whether something is true. */
#define IS(condition) printf("%s: %s\n", #condition, (condition) ? "yes" : "no")

/* Runs a block in a child process, which then exits with status 0; gives the wait status. */
#define CHILD(...)                                                                                                     \
	({                                                                                                             \
		pid_t child_ = fork();                                                                                 \
		int status_ = -1;                                                                                      \
		if (child_ == 0) {                                                                                     \
			__VA_ARGS__;                                                                                   \
			_exit(0);                                                                                      \
		}                                                                                                      \
		if (child_ < 0 || waitpid(child_, &status_, 0) != child_)                                              \
			printf("no child: %s\n", strerrorname_np(errno));                                              \
		status_;                                                                                               \
	})

/* Some helpers are not needed by some twins. */
#define UNUSED_OK __attribute__((unused))

UNUSED_OK static void twin_result(const char *call, long result, int show)
{
	int error = errno;

	if (result == -1)
		printf("%s = -1 %s\n", call, error ? strerrorname_np(error) : "without errno");
	else if (show)
		printf("%s = %ld\n", call, result);
	else
		printf("%s succeeds\n", call);
	errno = error;
}

/* A signal's name. */
UNUSED_OK static const char *signal_name(int number)
{
	const char *name = sigabbrev_np(number);

	return name ? name : "?";
}

/* Prints a wait status. */
UNUSED_OK static void show_status(const char *what, int status)
{
	if (WIFEXITED(status))
		printf("%s: exited %d\n", what, WEXITSTATUS(status));
	else if (WIFSIGNALED(status))
		printf("%s: killed by %s%s\n", what, signal_name(WTERMSIG(status)), WCOREDUMP(status) ? ", core" : "");
	else if (WIFSTOPPED(status))
		printf("%s: stopped by %s\n", what, signal_name(WSTOPSIG(status)));
	else if (WIFCONTINUED(status))
		printf("%s: continued\n", what);
	else
		printf("%s: status %#x\n", what, (unsigned)status);
}

/* Makes and enters an empty folder, so that twins do not meet. */
UNUSED_OK static void enter_folder(const char *name)
{
	char path[200];

	snprintf(path, sizeof path, "/tmp/twin-%s", name);
	if (mkdir(path, 0755) || chdir(path))
		printf("cannot enter %s: %s\n", path, strerrorname_np(errno));
}

/* Sleeps without signals in mind. */
UNUSED_OK static void sleep_ms(long milliseconds)
{
	struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};

	while (nanosleep(&time, &time) && errno == EINTR)
		;
}

/* Writes a file whole. */
UNUSED_OK static void make_file(const char *path, const char *content)
{
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (file < 0 || write(file, content, strlen(content)) != (ssize_t)strlen(content))
		printf("cannot make %s: %s\n", path, strerrorname_np(errno));
	close(file);
}

/* Prints what a file holds. */
UNUSED_OK static void show_file(const char *path)
{
	char text[512];
	int file = open(path, O_RDONLY);
	ssize_t length = file < 0 ? -1 : read(file, text, sizeof text);

	if (length < 0)
		printf("%s: %s\n", path, strerrorname_np(errno));
	else
		printf("%s: %zd bytes \"%.*s\"\n", path, length, (int)length, text);
	if (file >= 0)
		close(file);
}

/* Output leaves line by line, also into a pipe, so that fork copies no unwritten text. */
__attribute__((constructor)) static void twin_begin(void)
{
	static char buffer[4096];

	setvbuf(stdout, buffer, _IOLBF, sizeof buffer);
	umask(022);
}

#endif
