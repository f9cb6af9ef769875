/*
 * The textbook example: two forks in a loop, each process prints. On a terminal the C library writes line by line, so six
 * lines appear: two in the first round, four in the second. Through a pipe it keeps the text in memory, fork copies that
 * memory too, and eight lines come out.
 */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	for (int round = 0; round < 2; round++) {
		fork();
		printf("round %d\n", round);
	}
	while (wait(NULL) > 0)
		;
	return 0;
}
