# First process of a scene: sets its namespaces up, says "ready PID", and then holds them until end-of-file on stdin.
#   $1  what the names of the scene's disk images begin with
#   $2  "keep": stay until killed
set -e

# This is still the /proc of the test process: the pid in it is the one by which the test process knows us.
read -r pid _ </proc/self/stat
mount -t proc proc /proc

# Copies of other people's loop and GlusterFS mounts would keep those busy.
mounts=$(cat /proc/mounts)
while read -r device at type _; do
    case "$type:$device" in
    fuse.glusterfs:* | xfs:/dev/loop* | btrfs:/dev/loop* | ext4:/dev/loop*)
        [ "$at" = / ] || umount -l "$at" 2>/dev/null || : ;;
    esac
done <<END
$mounts
END

mount -t tmpfs -o mode=755 fsnap-run /run
mkdir -p /run/scene /run/gluster /run/lock /run/private/lib /run/private/log

# The hooks of Samba, CTDB, Ganesha and geo-replication would start services.
if [ -d /var/lib/glusterd ]; then
    for part in hooks groups; do
        [ ! -e "/var/lib/glusterd/$part" ] || cp -a "/var/lib/glusterd/$part" /run/private/lib/
    done
    find /run/private/lib -type f \
        \( -iname '*samba*' -o -iname '*ctdb*' -o -iname '*ganesha*' -o -iname '*nfs*' -o -iname '*geo-rep*' \) \
        -exec rm -f {} +
    mount --bind /run/private/lib /var/lib/glusterd
fi
[ ! -d /var/log/glusterfs ] || mount --bind /run/private/log /var/log/glusterfs

ip link set lo up

echo "ready $pid"
exec >/dev/null 2>&1
# A shell that waits for a child reaps all its children, also the orphans that the namespace hands to its first process.
if [ "$2" = keep ]; then
    while :; do sleep 3600; done
fi
cat
exec rm -f -- "$1"*
