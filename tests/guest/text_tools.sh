# awk, sed, grep, bc and friends on text.
check() {
    if [ "$2" != "$3" ]; then
        echo "$1: got '$2', not '$3'"
        exit 1
    fi
}
check "awk sum" "$(seq 1000 | awk '{ s += $1 } END { print s }')" "500500"
check "awk fields" "$(awk -F: '$1 == "root" { print $7 }' /etc/passwd)" "/bin/sh"
check "awk arrays" "$(printf 'b 1\na 2\nb 3\n' | awk '{ n[$1] += $2 } END { print n["a"], n["b"] }')" "2 4"
check "sed" "$(printf 'one\ntwo\nthree\n' | sed -n -e 's/o/0/g' -e '2,3p' | tr '\n' ' ')" "tw0 three "
check "sed -i" "$(echo before >/tmp/s; sed -i s/before/after/ /tmp/s; cat /tmp/s)" "after"
check "grep -E" "$(seq 100 | grep -c -E '^(.)\1?$')" "18"
check "bc" "$(echo '2^200' | bc)" "1606938044258990275541962092341162602522202993782792835301376"
check "cut and paste" "$(printf '1:2\n3:4\n' | cut -d: -f2 | paste -s -d+ | bc)" "6"
check "diff" "$(seq 5 >/tmp/a; seq 2 6 >/tmp/b; diff /tmp/a /tmp/b | grep -c '^[-+][0-9]')" "2"
check "factor" "$(factor 1234567891011)" "1234567891011: 3 7 13 67 107 630803"
check "od" "$(printf 'AB\n' | od -An -tx1)" " 41 42 0a"
check "printf" "$(printf '%05d|%-5s|%x' 42 ab 255)" "00042|ab   |ff"
check "sort -k" "$(printf 'x 3\ny 1\nz 2\n' | sort -k2 -n | tr -d '\n 0-9')" "yzx"
check "expr" "$(expr 6 \* 7)" "42"
