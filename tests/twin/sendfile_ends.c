/* sendfile(2) and copy_file_range(2) whose two ends are one open file, or two that are sent to each other. */
#include "twin.h"
#include <sys/sendfile.h>
#include <sys/wait.h>

int main(void)
{
	enum { ROUNDS = 300 };
	static char bytes[20000];

	enter_folder("sendfile_ends");
	int file = TRY(open("file", O_CREAT | O_RDWR, 0644));
	TRY(write(file, "abcdefghijklmnopqrstuvwxyz", 26));
	TRY(lseek(file, 5, SEEK_SET));
	TRY(sendfile(file, file, NULL, 10));
	TRY(lseek(file, 0, SEEK_CUR));
	TRY(sendfile(file, file, NULL, 100));
	TRY(sendfile(file, file, NULL, 100));
	TRY(lseek(file, 0, SEEK_CUR));
	off_t offset = 3;
	TRY(sendfile(file, file, &offset, 10));
	printf("offset %ld\n", (long)offset);
	TRY(lseek(file, 0, SEEK_CUR));
	TRY(lseek(file, 2, SEEK_SET));
	TRY(copy_file_range(file, NULL, file, NULL, 4, 0));
	offset = 30;
	TRY(copy_file_range(file, NULL, file, &offset, 4, 0));
	printf("offset %ld\n", (long)offset);
	TRY(lseek(file, 0, SEEK_CUR));
	show_file("file");

	/* Each sends to where the other reads, for long enough that they meet. */
	int ends[2] = {open("one", O_CREAT | O_RDWR, 0644), open("two", O_CREAT | O_RDWR, 0644)};
	TRY(write(ends[0], bytes, sizeof(bytes)) + write(ends[1], bytes, sizeof(bytes)));
	for (int child = 0; child < 2; child++)
		if (fork() == 0) {
			for (int round = 0; round < ROUNDS; round++) {
				lseek(ends[child], 0, SEEK_SET);
				sendfile(ends[!child], ends[child], NULL, sizeof(bytes) / 2);
			}
			_exit(0);
		}
	int status;
	for (int child = 0; child < 2; child++)
		wait(&status);
	puts("both came to their end");
	return 0;
}
