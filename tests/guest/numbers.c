/* numbers COUNT: lines of fifty letters and digits in no order. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	unsigned long state = 12345;

	for (long i = argc > 1 ? atol(argv[1]) : 10; i > 0; i--) {
		state = state * 6364136223846793005UL + 1442695040888963407UL;
		printf("%020lu the quick brown fox jumps over\n", state);
	}
	return 0;
}
