/*
 * What a file of /proc costs follows what is mapped, not what is reserved: 32 TiB without access have no page, and a reader that
 * looked at each would not come to its end in the time that a twin has.
 */
#include "twin.h"

/* The row of a file that begins with `name`, for the area that begins at `from` (or the first); -1 if there is none. */
static long row(const char *path, unsigned long from, const char *name)
{
	FILE *file = fopen(path, "r");
	char line[512];
	long found = -1;
	int inside = from == 0;

	while (file && fgets(line, sizeof line, file)) {
		unsigned long begin, end;

		if (from && sscanf(line, "%lx-%lx ", &begin, &end) == 2)
			inside = begin == from;
		if (inside && found < 0 && strncmp(line, name, strlen(name)) == 0)
			found = atol(line + strlen(name));
	}
	if (file)
		fclose(file);
	return found;
}

int main(void)
{
	const size_t size = 32ul << 40;
	char *reserved = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	IS(reserved != MAP_FAILED);
	/* Some pages far from each other. */
	for (int i = 0; i < 3; i++) {
		char *page = reserved + (i + 1) * (size / 4);

		TRY(mprotect(page, PAGE, PROT_READ | PROT_WRITE));
		*page = 1;
		printf("Rss %ld, Anonymous %ld\n", row("/proc/self/smaps", (unsigned long)page, "Rss:"),
		       row("/proc/self/smaps", (unsigned long)page, "Anonymous:"));
	}
	printf("Rss of the first %ld\n", row("/proc/self/smaps", (unsigned long)reserved, "Rss:"));
	IS(row("/proc/self/smaps_rollup", 0, "Rss:") >= 12);
	IS(row("/proc/self/status", 0, "VmPeak:") > (long)(size >> 10));
	/* Nor do these look at what was never there. */
	TRY(mprotect(reserved, size, PROT_READ));
	TRY(madvise(reserved, size, MADV_DONTNEED));
	show_status("child", CHILD(IS(reserved[size / 2] == 0)));
	TRY(munmap(reserved, size));
	return 0;
}
