/* brk(2): the break moves in bytes, memory comes zeroed, and shrinking gives it back. */
#include "twin.h"

static char *set(char *to)
{
	return (char *)syscall(SYS_brk, to);
}

int main(void)
{
	char *start = set(NULL);

	IS(set(start) == start);
	IS(set(start + 1) == start + 1);
	IS(set(start + 100000) == start + 100000);
	int zero = 1;
	for (int i = 0; i < 100000; i++)
		zero &= start[i] == 0;
	IS(zero);
	memset(start, 7, 100000);
	IS(set(start + 10) == start + 10);
	IS(set(start + 100000) == start + 100000);
	/* Whole pages that were given back are zero again. */
	IS(start[99999] == 0);
	IS(start[9] == 7);
	IS(set(start + (1UL << 46)) == start + 100000);
	IS(set((char *)PAGE) == start + 100000);
	IS(set((char *)-PAGE) == start + 100000);

	/* A mapping in the way stops it. */
	char *wall = (char *)(((unsigned long)start + 200000 + PAGE) & -PAGE);
	IS(mmap(wall, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == wall);
	IS(set(wall + PAGE) == start + 100000);
	IS(set(wall) == wall || set(NULL) == start + 100000);

	struct rlimit limit = {1 << 20, RLIM_INFINITY};
	TRY(setrlimit(RLIMIT_DATA, &limit));
	munmap(wall, PAGE);
	char *now = set(NULL);
	IS(set(now + (4 << 20)) == now);
	show_status("a child has the same break", CHILD(_exit(set(NULL) == now ? 0 : 1)));
	show_status("below the break", CHILD(((volatile char *)start)[1] = 1));
	show_status("far above the break", CHILD(((volatile char *)start)[64 << 20] = 1));
	return 0;
}
