#!/bin/sh
# A systemd that looks after a user's services, with mounts and control groups that nobody else sees. Root only.
#
#   systemd.sh FOLDER PROGRAM
#
# FOLDER has the user's `config`; PROGRAM is what stands at /usr/local/bin/chancery. Ends when its input does, with everything that
# was started, and takes FOLDER with it.
set -eu
folder=$1 program=$2

if [ "${MOUNTS:-}" != own ]; then
    exec env MOUNTS=own unshare --mount sh "$0" "$@"
fi
install -d -m 700 "$folder/run"
mkdir "$folder/groups"
mount -t cgroup2 none "$folder/groups"
group=$(mktemp -d "$folder/groups/chancery-test-XXXXXX")

(
    echo 0 >"$group/cgroup.procs"
    # shellcheck disable=SC2016 # the inner shell's
    exec env XDG_RUNTIME_DIR="$folder/run" XDG_CONFIG_HOME="$folder/config" HOME="$folder" unshare --cgroup sh -euc '
        umount -R /sys/fs/cgroup 2>/dev/null || true
        mount -t cgroup2 none /sys/fs/cgroup
        # It wants a machine that a systemd has started, with mounts that are shared.
        mount -t tmpfs tmpfs /run
        mkdir -p /run/systemd/system
        mount -t tmpfs tmpfs /usr/local/bin
        ln -s "$2" /usr/local/bin/chancery
        mount --make-rshared /
        echo $$ >"$1/pid"
        exec /usr/lib/systemd/systemd --user --log-target=console
    ' sh "$folder" "$program" </dev/null
) &

cat >/dev/null
echo 1 >"$group/cgroup.kill"
wait
# Who was killed is in its group for a moment more.
tries=50
until find "$group" -depth -type d -exec rmdir {} + 2>/dev/null; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || exit 1
    sleep 0.1
done
umount "$folder/groups"
rm -rf "$folder"
