/* truncate(2), lseek(2), holes: what lies between, and SEEK_DATA, SEEK_HOLE. */
#include "twin.h"

static int signals;

static void count_signal(int number)
{
	(void)number;
	signals++;
}

static void sizes(int file)
{
	struct stat data;

	fstat(file, &data);
	printf("size %ld, blocks %ld\n", (long)data.st_size, (long)data.st_blocks);
}

/* What the limit leaves is written, then nothing. The output may be a file too: it is written when the limit is off. */
static void at_the_limit(void)
{
	struct rlimit limit = {1000, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
	static char block[3000];
	static int results[8], errors[8];
	int small = open("small", O_CREAT | O_RDWR, 0644), append = open("small", O_WRONLY | O_APPEND), count = 0;

	signal(SIGXFSZ, count_signal);
	setrlimit(RLIMIT_FSIZE, &limit);
#define NOTE(call) (errno = 0, results[count] = (call), errors[count++] = errno)
	NOTE(write(small, block, 3000));
	NOTE(write(small, block, 1));
	NOTE(write(append, block, 1));
	NOTE(pwrite(small, block, 100, 950));
	NOTE(write(small, block, 0));
	NOTE(ftruncate(small, 2000));
	NOTE(ftruncate(small, 1000));
	NOTE(fallocate(small, 0, 500, 501));
	setrlimit(RLIMIT_FSIZE, &none);
	for (int i = 0; i < count; i++)
		printf("%d %s\n", results[i], errors[i] ? strerrorname_np(errors[i]) : "");
	printf("signals %d\n", signals);
	sizes(small);
	show_status("no handler", CHILD(signal(SIGXFSZ, SIG_DFL); limit.rlim_cur = 0; setrlimit(RLIMIT_FSIZE, &limit);
					write(small, block, 1)));
}

int main(void)
{
	char text[64];

	enter_folder("truncate");
	int file = TRY(open("file", O_CREAT | O_RDWR, 0644));
	TRY(write(file, "0123456789", 10));
	sizes(file);
	TRY(ftruncate(file, 5));
	TRY(ftruncate(file, 10));
	TRY(pread(file, text, 20, 0));
	for (int i = 0; i < 10; i++)
		printf("%d ", text[i]);
	printf("\n");
	TRY(lseek(file, 0, SEEK_CUR));
	TRY(write(file, "x", 1));
	sizes(file);
	TRY(ftruncate(file, -1));
	TRY(truncate("file", 3));
	TRY(truncate("missing", 3));
	TRY(truncate(".", 3));
	TRY(truncate("file", -1));
	TRY(truncate("file/", 1));
	sizes(file);
	TRY(read(file, text, 10));

	TRY(lseek(file, -1, SEEK_SET));
	TRY(lseek(file, -4, SEEK_END));
	TRY(lseek(file, -2, SEEK_END));
	TRY(lseek(file, 1L << 62, SEEK_SET) > 0);
	TRY(lseek(file, 0, 99));
	TRY(lseek(file, 100000, SEEK_SET));
	TRY(read(file, text, 1));
	TRY(write(file, "end", 3));
	sizes(file);
	TRY(lseek(file, 0, SEEK_DATA));
	TRY(lseek(file, 10, SEEK_DATA));
	TRY(lseek(file, 5000, SEEK_DATA));
	TRY(lseek(file, 0, SEEK_HOLE));
	TRY(lseek(file, 5000, SEEK_HOLE));
	TRY(lseek(file, 99000, SEEK_HOLE));
	TRY(lseek(file, 100003, SEEK_HOLE));
	TRY(lseek(file, 100003, SEEK_DATA));
	long sum = 0;
	lseek(file, 4, SEEK_SET);
	for (long count; (count = read(file, text, sizeof text)) > 0;)
		for (long i = 0; i < count; i++)
			sum += text[i];
	printf("sum %ld\n", sum);
	/* After shrinking and growing a page's rest is zero. */
	TRY(ftruncate(file, 4096));
	memset(text, 'y', sizeof text);
	TRY(pwrite(file, text, 64, 4000));
	TRY(ftruncate(file, 4010));
	TRY(ftruncate(file, 8192));
	TRY(pread(file, text, 64, 4000));
	printf("%c %d\n", text[9], text[10]);
	TRY(fallocate(file, 0, 10000, 5000));
	sizes(file);
	TRY(fallocate(file, 1, 50000, 5000));
	TRY(fallocate(file, 3, 4000, 4000));
	TRY(pread(file, text, 8, 4000));
	printf("%d\n", text[0]);
	TRY(fallocate(file, 2, 0, 1));
	TRY(fallocate(file, 0, 0, 0));
	TRY(fallocate(file, 0, -1, 5));
	at_the_limit();
	return 0;
}
