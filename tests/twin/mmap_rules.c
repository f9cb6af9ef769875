/* mmap(2): which arguments are refused, with which errno, and where mappings go. */
#include "twin.h"

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static long map(void *hint, size_t length, int protection, int flags, int file, off_t offset)
{
	void *result = mmap(hint, length, protection, flags, file, offset);

	return result == MAP_FAILED ? -1 : 0;
}

int main(void)
{
	enter_folder("mmap");
	make_file("file", "0123456789");
	int both = open("file", O_RDWR), reader = open("file", O_RDONLY), writer = open("file", O_WRONLY);
	int folder = open(".", O_RDONLY);

	TRY(map(NULL, 0, PROT_READ, ANON, -1, 0));
	TRY(map(NULL, 1, PROT_READ, ANON, -1, 0));
	TRY(map(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0));
	TRY(map(NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0));
	TRY(map(NULL, PAGE, PROT_READ, MAP_PRIVATE, 99, 0));
	TRY(map(NULL, PAGE, PROT_READ, MAP_PRIVATE, both, 1));
	TRY(map(NULL, PAGE, PROT_READ, MAP_PRIVATE, both, -PAGE));
	TRY(map(NULL, PAGE, PROT_READ, MAP_PRIVATE, folder, 0));
	TRY(map(NULL, PAGE, PROT_READ, MAP_PRIVATE, writer, 0));
	TRY(map(NULL, PAGE, PROT_WRITE, MAP_PRIVATE, reader, 0));
	TRY(map(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0));
	TRY(map(NULL, PAGE, PROT_READ, MAP_SHARED, reader, 0));
	TRY(map(NULL, PAGE, PROT_NONE, MAP_PRIVATE, reader, 0));
	TRY(map((void *)1, PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0));
	TRY(map((void *)-PAGE, PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0));
	TRY(map((void *)0x7ffffffff000, PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0));
	TRY(map(NULL, -PAGE, PROT_READ, ANON, -1, 0));
	TRY(map(NULL, SIZE_MAX, PROT_READ, ANON, -1, 0));
	TRY(map(NULL, 1UL << 47, PROT_READ, ANON, -1, 0));
	TRY(map(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	char *area = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, ANON, -1, 0);
	IS((unsigned long)area % PAGE == 0);
	IS(area[0] == 0 && area[4 * PAGE - 1] == 0);
	/* A free hint is taken, a taken one is not; MAP_FIXED replaces, MAP_FIXED_NOREPLACE refuses. */
	munmap(area, 4 * PAGE);
	IS(mmap(area, PAGE, PROT_READ | PROT_WRITE, ANON, -1, 0) == area);
	IS(mmap(area, PAGE, PROT_READ | PROT_WRITE, ANON, -1, 0) != area);
	area[0] = 5;
	TRY(map(area, PAGE, PROT_READ, ANON | MAP_FIXED_NOREPLACE, -1, 0));
	IS(mmap(area, PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0) == area);
	printf("replaced byte %d\n", area[0]);

	/* A private mapping of a file sees the file, and keeps its own changes. */
	char *text = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, both, 0);
	printf("%.10s, then %d\n", text, text[10]);
	text[0] = 'X';
	show_file("file");
	TRY(pwrite(both, "ab", 2, 1));
	printf("private after write: %.10s\n", text);
	close(both);
	printf("after close: %.10s\n", text);

	struct rlimit limit = {64 << 20, RLIM_INFINITY};
	show_status("address space limit", CHILD(setrlimit(RLIMIT_AS, &limit);
						 TRY(map(NULL, 100 << 20, PROT_READ, ANON, -1, 0));
						 TRY(map(NULL, 1 << 20, PROT_READ, ANON, -1, 0))));
	return 0;
}
