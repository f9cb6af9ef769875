/* O_APPEND, pread(2), pwrite(2), and offsets that are shared or not. */
#include "twin.h"

int main(void)
{
	char text[32] = {0};

	enter_folder("append");
	make_file("file", "abc");
	int one = open("file", O_RDWR | O_APPEND), two = open("file", O_RDWR);
	TRY(lseek(one, 0, SEEK_CUR));
	TRY(write(two, "X", 1));
	TRY(write(one, "def", 3));
	TRY(lseek(one, 0, SEEK_CUR));
	TRY(write(two, "Y", 1));
	TRY(pwrite(one, "at0", 3, 0));
	show_file("file");
	TRY(pread(one, text, 3, 1));
	printf("%s\n", text);
	TRY(pread(one, text, 3, -1));
	TRY(pwrite(two, "q", 1, -1));
	TRY(pread(one, text, 3, 1000));
	TRY(fcntl(one, F_SETFL, 0));
	TRY(lseek(one, 1, SEEK_SET));
	TRY(write(one, "Z", 1));
	show_file("file");

	/* dup and fork share an offset, a second open does not. */
	int copy = dup(one);
	TRY(lseek(one, 2, SEEK_SET));
	TRY(lseek(copy, 0, SEEK_CUR));
	show_status("child reads", CHILD(TRY(read(one, text, 2))));
	TRY(lseek(copy, 0, SEEK_CUR));
	TRY(lseek(two, 0, SEEK_CUR));
	/* Writers with O_APPEND lose nothing. */
	show_status("many", CHILD(for (int w = 0; w < 4; w++) if (fork() == 0) {
		int f = open("log", O_CREAT | O_WRONLY | O_APPEND, 0644);
		for (int i = 0; i < 50; i++)
			write(f, "line of ten\n", 12);
		_exit(0);
	} while (wait(NULL) > 0);));
	struct stat data;
	TRY(stat("log", &data));
	printf("size %ld\n", (long)data.st_size);
	TRY(lseek(0, 0, SEEK_END) >= 0);
	TRY(write(one, text, 0));
	TRY(read(one, text, 0));
	TRY(write(one, (void *)8, 0));
	TRY(write(one, (void *)8, 1));
	TRY(read(two, (void *)8, 1));
	TRY(read(two, text, -1));
	TRY(read(99, text, 1));
	TRY(write(-1, text, 1));
	/* A buffer that ends in nothing: what fits is done. */
	char *edge = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(edge + PAGE, PAGE);
	memset(edge, 'e', PAGE);
	int big = open("big", O_CREAT | O_RDWR, 0644);
	TRY(write(big, edge + PAGE - 10, 20));
	TRY(lseek(big, 0, SEEK_SET));
	TRY(write(big, edge, PAGE));
	TRY(lseek(big, 0, SEEK_SET));
	TRY(read(big, edge + PAGE - 10, 20));
	TRY(lseek(big, 0, SEEK_CUR));
	return 0;
}
