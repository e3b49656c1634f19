package gateway

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

const tcpEstablished = 1 // TCP_ESTABLISHED in net/tcp_states.h

// socketState tells, without reading, whether the peer of a TCP connection has
// closed or reset it, and whether it has acknowledged all that was written.
func socketState(c net.Conn) (gone, delivered bool) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false, true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true, false
	}
	var info *unix.TCPInfo
	ctlErr := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if ctlErr != nil || err != nil {
		return true, false
	}
	return info.State != tcpEstablished, info.Unacked == 0 && info.Notsent_bytes == 0
}
