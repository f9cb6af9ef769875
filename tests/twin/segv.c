/* Faults of a program: which signal, si_code and si_addr each gives. */
#include "twin.h"
#include <setjmp.h>

static sigjmp_buf back;
static siginfo_t got;

static void handler(int number, siginfo_t *info, void *context)
{
	(void)number, (void)context;
	got = *info;
	siglongjmp(back, 1);
}

static void show(const char *what, void *expected)
{
	printf("%s: %s code %d, address %s\n", what, signal_name(got.si_signo), got.si_code,
	       got.si_addr == expected ? "right" : got.si_addr == NULL ? "NULL" : "other");
}

#define FAULT(what, address, ...)                                                                                      \
	do {                                                                                                           \
		if (sigsetjmp(back, 1) == 0) {                                                                         \
			__VA_ARGS__;                                                                                   \
			printf("%s: no fault\n", what);                                                                \
		} else                                                                                                 \
			show(what, address);                                                                           \
	} while (0)

int main(void)
{
	struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
	int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
	volatile char *reader = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	volatile char *none = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	volatile char *code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	volatile char sink;
	volatile int zero = 0;

	for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
		sigaction(signals[i], &action, NULL);
	FAULT("read of NULL", NULL, sink = *(volatile char *)NULL);
	FAULT("write of NULL + 8", (void *)8, *(volatile char *)8 = 1);
	FAULT("write of a read-only page", (void *)(reader + 5), reader[5] = 1);
	FAULT("read of a read-only page", NULL, sink = reader[5]);
	FAULT("read of a PROT_NONE page", (void *)none, sink = none[0]);
	FAULT("write of a PROT_NONE page", (void *)(none + 4095), none[4095] = 0);
	munmap((void *)none, PAGE);
	FAULT("read of an unmapped page", (void *)(none + 7), sink = none[7]);
	FAULT("jump to NULL", NULL, ((void (*)(void))NULL)());
	code[0] = (char)0xc3;
	FAULT("jump to data", (void *)code, ((void (*)(void))code)());
	FAULT("read of a kernel address", NULL, sink = *(volatile char *)0xffffffff80000000);
	FAULT("read of a non-canonical address", NULL, sink = *(volatile char *)0x8000000000000000);
	FAULT("write of the last user page", (void *)0x7ffffffff000, *(volatile char *)0x7ffffffff000 = 1);
	FAULT("division by zero", got.si_addr, __asm__ volatile("idivl %0" ::"r"(zero), "a"(1), "d"(0)));
	FAULT("ud2", got.si_addr, __asm__ volatile("ud2"));
	FAULT("hlt", NULL, __asm__ volatile("hlt"));
	FAULT("cli", NULL, __asm__ volatile("cli"));
	FAULT("in", NULL, __asm__ volatile("inb $0x60, %%al" ::: "rax"));
	FAULT("int3", got.si_addr, __asm__ volatile("int3"));
	FAULT("int 0x50", NULL, __asm__ volatile("int $0x50"));

	/* A file's mapping beyond the file's end. */
	enter_folder("segv");
	make_file("file", "short");
	int file = open("file", O_RDWR);
	volatile char *map = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	FAULT("inside the last page of a file", NULL, sink = map[100]);
	FAULT("beyond the file's end", (void *)(map + PAGE + 3), sink = map[PAGE + 3]);
	FAULT("write beyond the file's end", (void *)(map + PAGE + 3), map[PAGE + 3] = 1);

	/* Without a handler the fault kills, also when the signal is blocked or ignored. */
	signal(SIGSEGV, SIG_DFL);
	show_status("default", CHILD(*(volatile char *)8 = 1));
	show_status("ignored", CHILD(signal(SIGSEGV, SIG_IGN); *(volatile char *)8 = 1));
	sigset_t set;
	sigfillset(&set);
	show_status("blocked", CHILD(sigaction(SIGSEGV, &action, NULL); sigprocmask(SIG_BLOCK, &set, NULL);
				     *(volatile char *)8 = 1));
	(void)sink;
	return 0;
}
