/* mkfifo(3): open waits for the other side, unless told not to. */
#include "twin.h"
#include <sys/sysmacros.h>

int main(void)
{
	char byte;
	struct stat data;

	enter_folder("fifo");
	TRY(mkfifo("pipe", 0640));
	TRY(mkfifo("pipe", 0640));
	TRY(stat("pipe", &data));
	printf("mode %o size %ld\n", data.st_mode, (long)data.st_size);
	int writer = TRY(open("pipe", O_WRONLY | O_NONBLOCK));
	int reader = TRY(open("pipe", O_RDONLY | O_NONBLOCK));
	TRY(read(reader, &byte, 1));
	writer = TRY(open("pipe", O_WRONLY | O_NONBLOCK));
	TRY(read(reader, &byte, 1));
	TRY(write(writer, "ab", 2));
	TRY(read(reader, &byte, 1));
	close(writer);
	TRY(read(reader, &byte, 1));
	TRY(read(reader, &byte, 1));
	close(reader);
	int both = TRY(open("pipe", O_RDWR));
	TRY(write(both, "c", 1));
	TRY(read(both, &byte, 1));
	close(both);
	show_status("both sides wait", CHILD(if (fork() == 0) { int w = open("pipe", O_WRONLY); write(w, "xyz", 3); _exit(0); }
					     int r = TRY(open("pipe", O_RDONLY)); char text[8]; long total = 0, count;
					     while ((count = read(r, text, sizeof text)) > 0) total += count;
					     printf("total %ld\n", total)));
	show_status("shell", CHILD(execl("/bin/sh", "sh", "-c", "echo through >pipe & cat pipe; wait", NULL)));
	/* A signal interrupts a waiting open. */
	struct sigaction action = {.sa_handler = (void (*)(int))(void *)abs};
	sigaction(SIGALRM, &action, NULL);
	struct itimerval soon = {{0, 0}, {0, 50000}};
	setitimer(ITIMER_REAL, &soon, NULL);
	TRY(open("pipe", O_RDONLY));
	TRY(open("pipe", O_RDONLY | O_NONBLOCK | O_DIRECTORY));
	TRY(mknod("node", S_IFIFO | 0600, 0));
	TRY(mknod("file", 0600, 0));
	TRY(mknod("folder", S_IFDIR | 0600, 0));
	TRY(mknod("device", S_IFCHR | 0600, makedev(1, 3)));
	TRY(stat("device", &data));
	printf("mode %o device %u:%u\n", data.st_mode, major(data.st_rdev), minor(data.st_rdev));
	int null = TRY(open("device", O_RDWR));
	TRY(read(null, &byte, 1));
	TRY(write(null, &byte, 1));
	show_status("not as a user", CHILD(setuid(1000); TRY(mknod("/tmp/d", S_IFCHR | 0600, makedev(1, 3)))));
	return 0;
}
