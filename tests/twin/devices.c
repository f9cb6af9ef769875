/* /dev/null, zero, full, random, urandom, and getrandom(2). */
#include "twin.h"
#include <sys/random.h>

static void probe(const char *path)
{
	char text[64];
	int file = open(path, O_RDWR);

	printf("--- %s: %s\n", path, file < 0 ? strerrorname_np(errno) : "open");
	memset(text, 'x', sizeof text);
	TRY(read(file, text, sizeof text));
	int zero = 1;
	for (unsigned i = 0; i < sizeof text; i++)
		zero &= text[i] == 0;
	IS(zero);
	TRY(write(file, text, sizeof text));
	TRY(write(file, text, 0));
	TRY(lseek(file, 100, SEEK_SET));
	TRY(lseek(file, 0, SEEK_END));
	TRY(pread(file, text, 4, 1000));
	TRY(pwrite(file, text, 4, 1000));
	TRY(ftruncate(file, 0));
	TRY(fsync(file));
	TRY(read(file, (void *)8, 4));
	TRY(write(file, (void *)8, 4));
	TRY(isatty(file));
	close(file);
	TRY(open(path, O_RDONLY | O_TRUNC) >= 0 ? 0 : -1);
	TRY(open(path, O_RDONLY | O_DIRECTORY));
}

int main(void)
{
	unsigned char a[64], b[64];
	long bits = 0;

	probe("/dev/null");
	probe("/dev/zero");
	probe("/dev/full");
	int file = open("/dev/urandom", O_RDONLY);
	TRY(read(file, a, sizeof a));
	TRY(read(file, b, sizeof b));
	IS(memcmp(a, b, sizeof a) != 0);
	TRY(getrandom(a, sizeof a, 0));
	TRY(getrandom(b, sizeof b, GRND_NONBLOCK | GRND_RANDOM));
	TRY(getrandom(a, 1, 99));
	TRY(getrandom(a, 0, 0));
	for (int round = 0; round < 100; round++) {
		getrandom(a, sizeof a, 0);
		for (unsigned i = 0; i < sizeof a; i++)
			bits += __builtin_popcount(a[i]);
	}
	IS(bits > 24600 && bits < 26600);
	/* A zero device can be mapped. */
	int zero = open("/dev/zero", O_RDWR);
	char *map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
	IS(map != MAP_FAILED && map[100] == 0);
	map[100] = 1;
	printf("%d\n", map[100]);
	TRY(open("/dev/nothing", O_RDONLY));
	/* A large read of zeroes is whole. */
	static char big[300000];
	memset(big, 1, sizeof big);
	TRY(read(zero, big, sizeof big));
	printf("%d %d\n", big[0], big[sizeof big - 1]);
	return 0;
}
