#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A guest of plain QEMU with a channel to the VM host.  The socket's name is how the host calls the guest.
#
#   examples/vm/qemu.sh web1 -m 2048 -accel kvm -drive file=web1.qcow2
set -eu
name=$1
shift
exec qemu-system-x86_64 "$@" \
    -device virtio-serial-pci \
    -chardev "socket,id=volact,path=${VOLACT_SOCKETS:-/run/volact/guests}/$name.sock,server=on,wait=off" \
    -device virtserialport,chardev=volact,name=org.volact.activation.0
