/*
 * What the benchmark programs have in common: their clock, and the end when a call fails that must not.
 */
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#define PAGE 4096

/* The time-stamp counter. Where QEMU counts instructions (-icount) a tick is one instruction. */
static inline unsigned long long ticks(void)
{
	unsigned low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (unsigned long long)high << 32 | low;
}

/* The end is told when everything before it is on its way: the machine stops at once. */
static inline void say_end(void)
{
	puts("end");
	fflush(stdout);
	tcdrain(STDOUT_FILENO);
}

static inline void fail(const char *what)
{
	perror(what);
	exit(1);
}
