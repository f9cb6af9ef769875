/* readv(2), writev(2), preadv(2), sendfile(2), copy_file_range(2): many buffers, and counts that are wrong. */
#include "twin.h"
#include <sys/sendfile.h>
#include <sys/uio.h>

int main(void)
{
	char a[4] = {0}, b[4] = {0}, c[8] = {0};
	struct iovec write_three[3] = {{"one", 3}, {"", 0}, {"fourth", 6}};
	struct iovec read_three[3] = {{a, 3}, {b, 2}, {c, 7}};
	static struct iovec many[1025];

	enter_folder("vectors");
	int file = TRY(open("file", O_CREAT | O_RDWR, 0644));
	TRY(writev(file, write_three, 3));
	TRY(writev(file, write_three, 0));
	TRY(writev(file, write_three, -1));
	TRY(writev(file, many, 1025));
	TRY(writev(file, many, 1024));
	TRY(writev(file, (struct iovec *)8, 1));
	TRY(lseek(file, 0, SEEK_SET));
	TRY(readv(file, read_three, 3));
	printf("%.3s %.2s %.4s\n", a, b, c);
	TRY(preadv(file, read_three, 2, 4));
	printf("%.3s %.2s\n", a, b);
	TRY(preadv(file, read_three, 2, -1));
	TRY(pwritev(file, write_three, 3, 20));
	TRY(lseek(file, 0, SEEK_CUR));
	struct iovec bad[2] = {{"ok", 2}, {(void *)8, 5}};
	TRY(pwritev(file, bad, 2, 0));
	struct iovec first_bad[2] = {{(void *)8, 5}, {"ok", 2}};
	TRY(pwritev(file, first_bad, 2, 0));
	struct iovec negative[2] = {{"ok", 2}, {"x", -1}};
	TRY(writev(file, negative, 2));
	struct iovec huge[2] = {{a, SSIZE_MAX}, {b, SSIZE_MAX}};
	TRY(readv(99, huge, 2));
	show_file("file");

	int to = open("to", O_CREAT | O_RDWR, 0644);
	off_t offset = 2;
	TRY(sendfile(to, file, &offset, 10));
	printf("offset %ld\n", (long)offset);
	TRY(lseek(file, 0, SEEK_SET));
	TRY(sendfile(to, file, NULL, 1000));
	TRY(sendfile(to, file, NULL, 1000));
	TRY(sendfile(99, file, NULL, 1));
	TRY(sendfile(to, 99, NULL, 1));
	show_file("to");
	off_t from = 0, at = 30;
	TRY(copy_file_range(file, &from, to, &at, 5, 0));
	TRY(copy_file_range(file, &from, to, &at, 5, 1));
	TRY(copy_file_range(file, &from, file, &from, 5, 0));
	printf("%ld %ld\n", (long)from, (long)at);
	show_file("to");
	return 0;
}
