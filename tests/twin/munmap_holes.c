/* munmap(2), mprotect(2), mremap(2): holes, halves, and pages of different minds. */
#include "twin.h"

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static char *area;

static int readable(char *at)
{
	int pipes[2], fine;

	if (pipe(pipes))
		return -1;
	fine = write(pipes[1], at, 1) == 1;
	close(pipes[0]);
	close(pipes[1]);
	return fine;
}

static int writable(char *at)
{
	int pipes[2], fine;

	if (pipe(pipes) || write(pipes[1], "w", 1) != 1)
		return -1;
	fine = read(pipes[0], at, 1) == 1;
	close(pipes[0]);
	close(pipes[1]);
	return fine;
}

static void show(int pages)
{
	for (int i = 0; i < pages; i++)
		printf("%c%c ", readable(area + i * PAGE) ? 'r' : '-', writable(area + i * PAGE) ? 'w' : '-');
	printf("\n");
}

int main(void)
{
	area = mmap(NULL, 10 * PAGE, PROT_READ | PROT_WRITE, ANON, -1, 0);
	show(10);
	TRY(munmap(area + 3 * PAGE, 2 * PAGE));
	show(10);
	TRY(munmap(area + 3 * PAGE, 2 * PAGE));
	TRY(munmap(area + 1, PAGE));
	TRY(munmap(area, 0));
	TRY(munmap(area, 1));
	show(10);
	TRY(munmap((void *)-PAGE, PAGE));
	TRY(mprotect(area + PAGE, 6 * PAGE, PROT_READ));
	show(10);
	TRY(mprotect(area + PAGE, PAGE, PROT_NONE));
	TRY(mprotect(area + 6 * PAGE, PAGE, PROT_READ));
	TRY(mprotect(area + 7 * PAGE, PAGE + 1, PROT_READ));
	show(10);
	TRY(mprotect(area + 6 * PAGE + 1, PAGE, PROT_READ));
	TRY(mprotect(area + 6 * PAGE, 0, PROT_READ));
	TRY(mprotect(area + 6 * PAGE, PAGE, 0x40));
	TRY(mprotect((void *)-PAGE, PAGE, PROT_READ));
	TRY(mprotect(area + 3 * PAGE, PAGE, PROT_READ));
	TRY(mprotect(area + 6 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE));
	show(10);

	/* mremap: shrink, grow in place, move with its content. */
	char *moving = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, ANON, -1, 0);
	for (int i = 0; i < 4; i++)
		moving[i * PAGE] = 'a' + i;
	IS(mremap(moving, 4 * PAGE, 2 * PAGE, 0) == moving);
	IS(!readable(moving + 2 * PAGE));
	char *wall = mmap(moving + 2 * PAGE, PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0);
	IS(wall == moving + 2 * PAGE);
	YES(mremap(moving, 2 * PAGE, 4 * PAGE, 0));
	char *moved = mremap(moving, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
	IS(moved != MAP_FAILED && moved != moving);
	printf("%c%c, new byte %d\n", moved[0], moved[PAGE], moved[63 * PAGE]);
	IS(!readable(moving));
	YES(mremap(moving + 1, PAGE, PAGE, 0));
	YES(mremap(moving, PAGE, PAGE, 0));
	YES(mremap(moved, PAGE, 0, 0));
	YES(mremap(moved, PAGE, PAGE, 8));
	YES(mremap(moved, PAGE, PAGE, MREMAP_FIXED, area));
	TRY(madvise(moved, PAGE, MADV_DONTNEED));
	printf("after MADV_DONTNEED %d\n", moved[0]);
	TRY(madvise(moved + 1, PAGE, MADV_DONTNEED));
	TRY(madvise(moved, PAGE, 9999));
	TRY(madvise(moving, PAGE, MADV_DONTNEED));
	TRY(msync(moved, PAGE, MS_SYNC));
	TRY(msync(moving, PAGE, MS_SYNC));
	TRY(msync(moved, PAGE, MS_SYNC | MS_ASYNC));
	return 0;
}
