/* The text of /proc: the shape of each file, with numbers replaced by N. */
#include "twin.h"

static char text[100000];

static int slurp(const char *path)
{
	int file = open(path, O_RDONLY);
	long total = 0, count;

	if (file < 0) {
		printf("%s: %s\n", path, strerrorname_np(errno));
		return -1;
	}
	while (total < (long)sizeof text - 1 && (count = read(file, text + total, sizeof text - 1 - total)) > 0)
		total += count;
	text[total] = 0;
	close(file);
	return 0;
}

/* Prints up to some lines with every run of digits as N and every run of blanks as one. */
static void shape(const char *path, int lines)
{
	printf("--- %s\n", path);
	if (slurp(path))
		return;
	for (char *at = text; *at && lines; at++) {
		if (*at >= '0' && *at <= '9') {
			while (at[1] >= '0' && at[1] <= '9')
				at++;
			putchar('N');
		} else if (*at == ' ' || *at == '\t') {
			while (at[1] == ' ' || at[1] == '\t')
				at++;
			putchar(' ');
		} else {
			putchar(*at ? *at : '0');
		}
		lines -= *at == '\n';
	}
}

/* Prints a field of a file of "Name: value" lines. */
static void field(const char *name)
{
	char *line = text;

	while (line && strncmp(line, name, strlen(name)))
		line = (line = strchr(line, '\n')) ? line + 1 : NULL;
	if (line)
		printf("%.*s\n", (int)strcspn(line, "\n"), line);
	else
		printf("no %s\n", name);
}

static void fields_of_stat(void)
{
	long count = 0;

	slurp("/proc/self/stat");
	char *rest = strrchr(text, ')');
	printf("%.*s", (int)(strchr(text, ')') - strchr(text, '(') + 1), strchr(text, '('));
	for (char *at = rest; (at = strchr(at, ' ')); at++)
		count++;
	printf(" %.1s, %ld fields after the name\n", rest + 2, count);
	int pid, ppid, group, session;
	char state;
	sscanf(text, "%d %*s %c %d %d %d", &pid, &state, &ppid, &group, &session);
	IS(pid == getpid() && ppid == getppid() && group == getpgrp() && session == getsid(0));
}

int main(void)
{
	shape("/proc/uptime", 1);
	shape("/proc/loadavg", 1);
	fields_of_stat();
	shape("/proc/self/statm", 1);
	shape("/proc/self/comm", 1);
	slurp("/proc/self/cmdline");
	IS(strstr(text, "proc_formats") != NULL);
	slurp("/proc/self/status");
	const char *names[] = {"Name:", "State:", "Uid:", "Gid:", "Threads:", "SigBlk:", "SigIgn:", "SigCgt:", "FDSize:"};
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(names[i], "FDSize:"))
			field(names[i]);
	const char *there[] = {"Pid:", "PPid:", "Tgid:", "VmSize:", "VmRSS:", "VmData:", "VmStk:"};
	for (unsigned i = 0; i < sizeof there / sizeof *there; i++)
		printf("%s %s\n", there[i], strstr(text, there[i]) ? "there" : "missing");
	slurp("/proc/meminfo");
	const char *memory[] = {"MemTotal:", "MemFree:", "MemAvailable:", "Buffers:", "Cached:", "SwapTotal:", "SwapFree:", "Shmem:", "Slab:"};
	for (unsigned i = 0; i < sizeof memory / sizeof *memory; i++) {
		char *line = strstr(text, memory[i]);
		long value = -1;
		char unit[4] = "";
		if (line)
			sscanf(line + strlen(memory[i]), "%ld %3s", &value, unit);
		printf("%s %s %s\n", memory[i], value >= 0 ? "a number of" : "missing", unit);
	}
	slurp("/proc/stat");
	IS(strncmp(text, "cpu  ", 5) == 0);
	long cpu_fields = 0;
	for (char *at = text; *at && *at != '\n'; at++)
		cpu_fields += *at == ' ' && at[1] != ' ';
	printf("cpu has %ld numbers\n", cpu_fields);
	const char *counters[] = {"cpu0 ", "ctxt ", "btime ", "processes ", "procs_running ", "procs_blocked "};
	for (unsigned i = 0; i < sizeof counters / sizeof *counters; i++)
		printf("%s%s\n", counters[i], strstr(text, counters[i]) ? "there" : "missing");
	slurp("/proc/filesystems");
	printf("%s %s\n", strstr(text, "nodev\ttmpfs\n") ? "tmpfs" : "", strstr(text, "nodev\tproc\n") ? "proc" : "");
	slurp("/proc/mounts");
	IS(strstr(text, " / ") && strstr(text, " /proc proc "));
	IS(strstr(text, " 0 0\n") != NULL);

	/* The map: lines in order of address, with the program, its heap and stack. */
	slurp("/proc/self/maps");
	unsigned long last = 0, from, to, wrong = 0;
	char mode[8], *line = text;
	for (; line && *line; line = (line = strchr(line, '\n')) ? line + 1 : NULL) {
		if (sscanf(line, "%lx-%lx %4s", &from, &to, mode) != 3 || from < last || to <= from || strlen(mode) != 4)
			wrong++;
		last = to;
	}
	printf("wrong lines %lu\n", wrong);
	IS(strstr(text, "/twin/proc_formats\n") != NULL);
	IS(strstr(text, "[stack]\n") != NULL);
	IS(strstr(text, "rw-p 00000000 00:00 0") != NULL);

	char link[200] = {0};
	TRY(readlink("/proc/self/exe", link, sizeof link));
	printf("%s\n", link);
	memset(link, 0, sizeof link);
	TRY(readlink("/proc/self/cwd", link, sizeof link) > 0);
	chdir("/tmp");
	memset(link, 0, sizeof link);
	readlink("/proc/self/cwd", link, sizeof link);
	printf("%s\n", link);
	memset(link, 0, sizeof link);
	readlink("/proc/self/root", link, sizeof link);
	printf("%s\n", link);
	int file = open("/dev/null", O_RDWR);
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	memset(link, 0, sizeof link);
	readlink(path, link, sizeof link);
	printf("%s\n", link);
	IS(atoi((memset(link, 0, sizeof link), readlink("/proc/self", link, sizeof link), link)) == getpid());

	TRY(open("/proc/1000000/stat", O_RDONLY));
	TRY(open("/proc/self/nothing", O_RDONLY));
	TRY(mkdir("/proc/x", 0755));
	TRY(unlink("/proc/uptime"));
	TRY(open("/proc/x", O_CREAT | O_WRONLY, 0644));
	TRY(chdir("/proc/self"));
	struct stat data;
	TRY(stat("/proc/self/status", &data));
	printf("%o size %ld\n", data.st_mode, (long)data.st_size);
	TRY(stat("/proc/1", &data));
	printf("%o\n", data.st_mode);
	/* A zombie has no command line, and its state is Z. */
	pid_t child = fork();
	if (child == 0)
		_exit(0);
	sleep_ms(50);
	snprintf(path, sizeof path, "/proc/%d/stat", child);
	slurp(path);
	printf("state %.1s\n", strrchr(text, ')') + 2);
	snprintf(path, sizeof path, "/proc/%d/cmdline", child);
	slurp(path);
	printf("command line \"%s\"\n", text);
	return 0;
}
