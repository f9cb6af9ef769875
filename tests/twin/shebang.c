/* Scripts: `#!` with and without an argument, nested, and what the interpreter is given. */
#include "twin.h"

static void script(const char *path, const char *text)
{
	make_file(path, text);
	chmod(path, 0755);
}

static void run(const char *path)
{
	char *arguments[] = {"zero", "one", "two words", NULL};
	char *environment[] = {"A=b", NULL};

	show_status(path, CHILD(execve(path, arguments, environment); printf("%s\n", strerrorname_np(errno)); _exit(77)));
}

int main(int argc, char **argv, char **environment)
{
	if (argc > 1) {
		for (int i = 0; i < argc; i++)
			printf("  argument %d: %s\n", i, i ? argv[i] : "...");
		for (; *environment; environment++)
			printf("  environment: %s\n", *environment);
		return argc;
	}
	char self[300] = {0}, text[1000];
	enter_folder("shebang");
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
		printf("no /proc/self/exe\n");
	symlink(self, "me");

	snprintf(text, sizeof text, "#!%s\n", self);
	script("plain", text);
	run("plain");
	run("./plain");
	script("argument", "#!/tmp/twin-shebang/me  one argument with blanks  \nrest\n");
	run("argument");
	script("blanks", "#! \t /tmp/twin-shebang/me\t-x\n");
	run("blanks");
	script("no-newline", "#!/tmp/twin-shebang/me");
	run("no-newline");
	script("nested", "#!/tmp/twin-shebang/argument deeper\n");
	run("nested");
	script("n1", "#!/tmp/twin-shebang/nested\n");
	script("n2", "#!/tmp/twin-shebang/n1\n");
	script("n3", "#!/tmp/twin-shebang/n2\n");
	script("n4", "#!/tmp/twin-shebang/n3\n");
	run("n1");
	run("n2");
	run("n3");
	run("n4");
	script("shell", "#!/bin/sh\necho \"$#: $1, $2\"\nexit 4\n");
	run("shell");
	memset(text, 'x', sizeof text);
	memcpy(text, "#!/", 3);
	text[999] = 0;
	script("long", text);
	run("long");
	return 0;
}
