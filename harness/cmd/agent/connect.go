package main

import (
	"flag"
	"io"
	"net"
	"os"
	"time"
)

// connectTimeout bounds how long an address may take to answer.
const connectTimeout = 10 * time.Second

func connect(flags *flag.FlagSet) func(io.Writer) error {
	address := flags.String("address", "", "host:port")
	return func(stdout io.Writer) error {
		if err := required("address", *address); err != nil {
			return err
		}
		return pipe(*address, os.Stdin, stdout)
	}
}

// pipe leads in to a TCP address and its answers to out. It ends with either: whoever is at the other end of in has then
// nothing more to say, or is gone.
func pipe(address string, in io.Reader, out io.Writer) error {
	conn, err := net.DialTimeout("tcp", address, connectTimeout)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ended := make(chan error, 2)
	go func() {
		_, err := io.Copy(conn, in)
		ended <- err
	}()
	go func() {
		_, err := io.Copy(out, conn)
		ended <- err
	}()
	return <-ended
}
