"""The cable between agent and broker, with a real server behind it that sends back what it hears."""

import contextlib
import socket
import threading

import pytest

from agent.demo.network import LAST_WORDS_S, Network
from tests.fakes.broker import free_port

PATIENCE_S = 10.0


class Echo:
    """Takes connections one after the other and sends back what it hears; ``heard`` has it all."""

    def __init__(self):
        self.heard = b""
        self.came = threading.Condition()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection, contextlib.suppress(OSError):
                    while data := connection.recv(1000):
                        with self.came:
                            self.heard += data
                            self.came.notify_all()
                        connection.sendall(data)

    def has_heard(self, words):
        with self.came:
            return self.came.wait_for(lambda: words in self.heard, PATIENCE_S)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def echo():
    echo = Echo()
    yield echo
    echo.listener.close()


@pytest.fixture
def network(clock):
    network = Network(clock)
    yield network
    network.close()


def connect(network):
    return socket.create_connection(("127.0.0.1", network.port), PATIENCE_S)


def test_it_carries_both_ways(network, echo):
    network.lead_to(echo.port)
    for _ in range(2):
        with connect(network) as line:
            line.sendall(b"hello")
            assert line.recv(100) == b"hello"


def test_who_comes_early_waits_for_the_other_end(network, echo):
    with connect(network) as line:
        line.sendall(b"early")
        line.settimeout(0.2)
        with pytest.raises(TimeoutError):
            line.recv(100)
        assert echo.heard == b""
        network.lead_to(echo.port)
        line.settimeout(PATIENCE_S)
        assert line.recv(100) == b"early"


def test_a_pulled_cable_loses_what_is_sent_and_says_nothing(network, echo, clock):
    network.lead_to(echo.port)
    with connect(network) as line:
        line.sendall(b"before")
        assert line.recv(100) == b"before"
        network.pull()
        assert network.pulled
        line.sendall(b"last words")  # they are heard, and their answer is lost
        assert echo.has_heard(b"last words")
        clock.now += LAST_WORDS_S
        line.sendall(b"into the void")
        line.settimeout(0.3)
        with pytest.raises(TimeoutError):
            line.recv(100)  # neither an answer nor an end
        assert echo.heard == b"beforelast words"


def test_after_an_outage_the_old_connection_is_gone_and_a_new_one_works(network, echo, clock):
    network.lead_to(echo.port)
    with connect(network) as line:
        line.sendall(b"before")
        assert line.recv(100) == b"before"
        network.pull()
        clock.now += LAST_WORDS_S
        line.sendall(b"lost")
        network.put_back()
        assert not network.pulled
        with contextlib.suppress(ConnectionResetError):
            assert line.recv(100) == b""
    with connect(network) as line:
        line.sendall(b"after")
        assert line.recv(100) == b"after"
    assert b"lost" not in echo.heard


def test_no_broker_is_a_connection_that_ends(network):
    network.lead_to(free_port())
    for _ in range(2):
        with connect(network) as line, contextlib.suppress(ConnectionResetError):
            assert line.recv(100) == b""


def test_it_is_heard_on_this_machine_only(network):
    assert network._listener.getsockname()[0] == "127.0.0.1"


def test_it_closes_also_while_somebody_waits():
    network = Network()
    with connect(network):
        network.close()
    with pytest.raises(OSError, match=r"refused|reset"):
        connect(network)
