# How to run a program as the user that owns the data.
as_owner() {
	if [ "$(id -u)" -eq 0 ]; then
		(cd / && setpriv --reuid=mysql --regid=mysql --clear-groups "$@")
	else
		"$@"
	fi
}
