/* execve(2): every way it refuses, and that the caller survives. */
#include "twin.h"

static char *arguments[] = {"program", NULL};
static char *environment[] = {NULL};

static void bytes(const char *path, const void *data, size_t length, mode_t mode)
{
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);

	if (write(file, data, length) != (ssize_t)length)
		printf("short write\n");
	close(file);
	chmod(path, mode);
}

int main(void)
{
	char name[5000], self[100000];
	char elf[128] = "\177ELF\2\1\1";

	enter_folder("exec");
	TRY(execve("missing", arguments, environment));
	TRY(execve("", arguments, environment));
	TRY(execve(".", arguments, environment));
	TRY(execve("missing/deeper", arguments, environment));
	bytes("text", "hello\n", 6, 0644);
	TRY(execve("text", arguments, environment));
	TRY(execve("text/deeper", arguments, environment));
	chmod("text", 0755);
	TRY(execve("text", arguments, environment));
	bytes("empty", "", 0, 0755);
	TRY(execve("empty", arguments, environment));
	bytes("short", "\177EL", 3, 0755);
	TRY(execve("short", arguments, environment));
	bytes("header", elf, sizeof elf, 0755);
	TRY(execve("header", arguments, environment));
	elf[16] = 2, elf[18] = 0x28; /* ET_EXEC for ARM */
	bytes("arm", elf, sizeof elf, 0755);
	TRY(execve("arm", arguments, environment));
	elf[18] = 0x3e, elf[4] = 1; /* 32 bits */
	bytes("bits", elf, 52, 0755);
	TRY(execve("bits", arguments, environment));
	memset(name, 'a', sizeof name - 1);
	name[sizeof name - 1] = 0;
	TRY(execve(name, arguments, environment));
	name[300] = 0;
	TRY(execve(name, arguments, environment));
	TRY(execve((char *)8, arguments, environment));
	TRY(execve("/proc/self/exe", (char **)8, environment));
	TRY(execve("/proc/self/exe", arguments, (char **)8));
	char *bad[] = {"program", (char *)8, NULL};
	TRY(execve("/proc/self/exe", bad, environment));
	symlink("loop", "loop");
	TRY(execve("loop", arguments, environment));
	mkdir("closed", 0);
	TRY(execve("closed", arguments, environment));

	/* A script whose interpreter is missing, is a folder, or is itself. */
	bytes("script1", "#!/nowhere/sh\n", 14, 0755);
	TRY(execve("script1", arguments, environment));
	bytes("script2", "#!/tmp\n", 7, 0755);
	TRY(execve("script2", arguments, environment));
	bytes("script3", "#!\n", 3, 0755);
	TRY(execve("script3", arguments, environment));
	bytes("script4", "#!/tmp/twin-exec/script4\n", 25, 0755);
	TRY(execve("script4", arguments, environment));

	/* A file open for writing is busy, and a running program cannot be written. */
	int writer = open("text", O_WRONLY);
	TRY(execve("text", arguments, environment));
	close(writer);
	TRY(open("/proc/self/exe", O_WRONLY));

	/* An argument list too long. */
	char *huge = malloc(200000);
	memset(huge, 'x', 199999);
	huge[199999] = 0;
	char *long_one[] = {"program", huge, NULL};
	TRY(execve("/proc/self/exe", long_one, environment));

	/* A truncated copy of this program. */
	int me = open("/proc/self/exe", O_RDONLY);
	ssize_t length = read(me, self, sizeof self);
	bytes("cut", self, length < 64 ? 0 : 64, 0755);
	TRY(execve("cut", arguments, environment));
	return 0;
}
