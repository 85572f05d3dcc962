package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// server is one etcd member of its own cluster, on loopback.
type server struct {
	binary    string
	directory string
	maxTxnOps int
	process   *exec.Cmd
	conn      *grpc.ClientConn
}

func (s *server) start() error {
	client, err := freePort()
	if err != nil {
		return err
	}
	peer, err := freePort()
	if err != nil {
		return err
	}
	clientURL, peerURL := "http://"+client, "http://"+peer
	s.process = exec.Command(s.binary, "--name", "m1", "--data-dir", s.directory,
		"--listen-client-urls", clientURL, "--advertise-client-urls", clientURL,
		"--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL, "--initial-cluster", "m1="+peerURL,
		"--max-txn-ops", fmt.Sprint(s.maxTxnOps), "--log-level", "fatal", "--unsafe-no-fsync")
	s.process.Stderr = os.Stderr
	if err := s.process.Start(); err != nil {
		return err
	}
	if s.conn, err = grpc.NewClient(client, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return err
	}
	return s.awaitLeader()
}

// awaitLeader asks a linearizable question and lets gRPC wait until somebody answers.
func (s *server) awaitLeader() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	request := &pb.RangeRequest{Key: []byte{0}, CountOnly: true}
	_, err := pb.NewKVClient(s.conn).Range(ctx, request, grpc.WaitForReady(true))
	return err
}

func (s *server) stop() error {
	s.conn.Close()
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	s.process.Wait() // etcd ends itself with the signal it was sent, which is no failure here
	return nil
}

// freePort finds a port that is free now, above 20000.
func freePort() (string, error) {
	for {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		address := listener.Addr().(*net.TCPAddr)
		listener.Close()
		if address.Port > 20000 {
			return address.String(), nil
		}
	}
}
