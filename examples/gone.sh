# Sourced by the set-up scripts.  remove_gone PIDFILE FOLDERS...: remove the folders of servers that are gone, and of those
# that never came: a folder without a process number after five minutes.
remove_gone() {
	pidfile=$1
	shift
	for old in "$@"; do
		[ -d "$old" ] || continue
		pid=$(head -n 1 "$old/$pidfile" 2>/dev/null || echo)
		if [ -n "$pid" ]; then
			kill -0 "$pid" 2>/dev/null || rm -rf "$old"
		elif [ -n "$(find "$old" -maxdepth 0 -mmin +5)" ]; then
			rm -rf "$old"
		fi
	done
}
