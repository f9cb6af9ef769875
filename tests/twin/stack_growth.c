/* The stack: grows down on demand, keeps its limit, and its red zone and guard are respected. */
#include "twin.h"

static int deep(int levels)
{
	volatile char frame[16 * 1024];

	frame[0] = (char)levels;
	frame[sizeof frame - 1] = (char)levels;
	return levels == 0 ? 0 : deep(levels - 1) + frame[0] - frame[sizeof frame - 1] + 1;
}

int main(void)
{
	struct rlimit limit;

	TRY(getrlimit(RLIMIT_STACK, &limit));
	printf("soft limit %lu KiB\n", (unsigned long)limit.rlim_cur / 1024);
	printf("depth %d\n", deep(300));
	show_status("all of the stack", CHILD(_exit(deep(480) == 480 ? 0 : 1)));
	show_status("more than the stack", CHILD(deep(600)));
	limit.rlim_cur = 1 << 20;
	show_status("a smaller limit", CHILD(setrlimit(RLIMIT_STACK, &limit); deep(400)));
	/* A write far below the stack pointer, but inside the limit, grows it too. */
	show_status("64 KiB below", CHILD(volatile char here; (&here)[-65536] = 1));
	show_status("1 MiB below", CHILD(volatile char here; (&here)[-(1 << 20)] = 1));
	show_status("16 MiB below", CHILD(volatile char here; (&here)[-(16 << 20)] = 1));
	/* The kernel's writes grow it as well. */
	char *low = (char *)&limit - (3 << 20);
	int zero = open("/dev/zero", O_RDONLY);
	TRY(read(zero, low, 100));
	/* The stack cannot be executed. */
	unsigned char code[] = {0xc3};
	show_status("code on the stack", CHILD(((void (*)(void))code)()));
	return 0;
}
