# Pipelines of programs people know, each with a result that is known.
check() {
    if [ "$2" != "$3" ]; then
        echo "$1: got '$2', not '$3'"
        exit 1
    fi
}
check "long pipeline" "$(seq 10000 | sort -rn | head -n 5000 | tail -n 1 | cat | cat | cat | cat)" "5001"
check "wc" "$(seq 100000 | wc -c)" "588895"
check "sort -n" "$(seq 5000 | sort -rn | tail -n 1)" "1"
check "uniq -c" "$(printf 'a\na\nb\n' | uniq -c | tr -s ' ' | tr '\n' ';')" " 2 a; 1 b;"
check "tee" "$(echo text | tee /tmp/copy | md5sum)" "$(md5sum </tmp/copy)"
check "xargs" "$(seq 1000 | xargs -n 10 echo | wc -l)" "100"
check "find | xargs" "$(find /bin /sbin /usr -type l | xargs ls -d | wc -l)" "$(find /bin /sbin /usr -type l | wc -l)"
check "SIGPIPE" "$(yes | head -n 3 | wc -l)" "3"
check "subshells" "$( (echo a; (echo b; (echo c))) | tr -d '\n')" "abc"
check "exit status of a pipeline" "$(true | false; echo $?)" "1"
check "dd" "$(dd if=/dev/zero bs=1k count=1000 2>/dev/null | wc -c)" "1024000"
check "substitution" "$(echo $(echo $(echo deep)))" "deep"
check "redirections" "$( { echo out; echo err >&2; } 2>&1 >/dev/null | tail -n 1)" "err"
