/* truncate(2), lseek(2), holes: what lies between, and SEEK_DATA, SEEK_HOLE. */
#include "twin.h"

static void sizes(int file)
{
	struct stat data;

	fstat(file, &data);
	printf("size %ld, blocks %ld\n", (long)data.st_size, (long)data.st_blocks);
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
	struct rlimit limit = {1000, 1000};
	setrlimit(RLIMIT_FSIZE, &limit);
	signal(SIGXFSZ, SIG_IGN);
	int small = open("small", O_CREAT | O_RDWR, 0644);
	static char block[3000];
	TRY(write(small, block, 3000));
	TRY(write(small, block, 1));
	TRY(ftruncate(small, 2000));
	return 0;
}
