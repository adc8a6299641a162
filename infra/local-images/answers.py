#!/usr/bin/env python3
"""Does a server on 127.0.0.1 answer its protocol? Speaks it over a bare socket: no client to install.

usage: answers.py postgres|redis|redis-cluster|cassandra|ministack PORT[,PORT...] [SECONDS]

Asks until the answer is right or SECONDS (60) have passed; prints what answered.
"""
import base64, hashlib, hmac, json, os, socket, struct, sys, time, urllib.request


def connect(port):
    """One connection; no question may take longer than 5 s."""
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def exactly(sock, size):
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise ConnectionError("closed")
        data += part
    return data


def postgres(port):
    """Signs in (SCRAM-SHA-256) as chirp with password chirp and asks for the version."""
    with connect(port) as sock:
        def send(kind, body):
            sock.sendall(kind + struct.pack("!i", len(body) + 4) + body)

        def receive():
            kind, size = exactly(sock, 1), struct.unpack("!i", exactly(sock, 4))[0]
            body = exactly(sock, size - 4)
            if kind == b"E":
                raise ConnectionError(body.replace(b"\0", b" ").decode())
            return kind, body

        send(b"", struct.pack("!i", 3 << 16) + b"user\0chirp\0database\0chirp\0\0")
        receive()
        nonce = base64.b64encode(os.urandom(18)).decode()
        first = f"n=,r={nonce}"
        said = f"n,,{first}".encode()
        send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(said)) + said)
        server = receive()[1][4:].decode()
        fields = dict(field.split("=", 1) for field in server.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", b"chirp", base64.b64decode(fields["s"]), int(fields["i"]))
        last = f"c=biws,r={fields['r']}"
        key = hmac.digest(salted, b"Client Key", "sha256")
        sign = hmac.digest(hashlib.sha256(key).digest(), f"{first},{server},{last}".encode(), "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, sign))).decode()
        send(b"p", f"{last},p={proof}".encode())
        while receive()[0] != b"Z":
            pass
        send(b"Q", b"SELECT split_part(version(), ' ', 2)\0")
        while True:
            kind, body = receive()
            if kind == b"D":
                return body[6:].decode()


def redis_ask(port, *words):
    with connect(port) as sock:
        sock.sendall(f"*{len(words)}\r\n".encode() + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words))
        reply = sock.makefile("rb")
        line = reply.readline().decode().strip()
        if not line or line[0] == "-":
            raise ConnectionError(line or "closed")
        return reply.read(int(line[1:])).decode() if line[0] == "$" else line[1:]


def redis(port):
    if redis_ask(port, "PING") != "PONG":
        raise ConnectionError("no PONG")
    info = redis_ask(port, "INFO", "server")
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line)["redis_version"]


def redis_cluster(*ports):
    """Every node must see all slots served, under the ports that the host knows."""
    for port in ports:
        if "cluster_state:ok" not in redis_ask(port, "CLUSTER", "INFO"):
            raise ConnectionError(f"{port}: not ok")
        nodes = redis_ask(port, "CLUSTER", "NODES")
        if not all(f" 127.0.0.1:{other}@" in nodes for other in ports):
            raise ConnectionError(f"{port}: does not know every node")
    return f"{redis(ports[0])}, {len(ports)} nodes"


def cassandra(port):
    """CQL v4: OPTIONS would answer before queries do, so STARTUP and a query."""
    with connect(port) as sock:
        def ask(opcode, body):
            sock.sendall(struct.pack("!BBhBi", 4, 0, 1, opcode, len(body)) + body)
            _, _, _, kind, size = struct.unpack("!BBhBi", exactly(sock, 9))
            body = exactly(sock, size)
            if kind == 0:
                raise ConnectionError(body[6:].decode(errors="replace"))
            return body

        text = lambda word: struct.pack("!H", len(word)) + word
        ask(1, struct.pack("!H", 1) + text(b"CQL_VERSION") + text(b"3.0.0"))
        query = b"SELECT release_version FROM system.local"
        rows = ask(7, struct.pack("!i", len(query)) + query + struct.pack("!HB", 6, 0))
        return rows.rsplit(b"\0", 1)[1][1:].decode()


def ministack(port):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    health = json.load(opener.open(f"http://127.0.0.1:{port}/_ministack/health", timeout=5))
    return str(health.get("version", "healthy"))


def main():
    ask = {"postgres": postgres, "redis": redis, "redis-cluster": redis_cluster, "cassandra": cassandra, "ministack": ministack}[sys.argv[1]]
    ports = [int(port) for port in sys.argv[2].split(",")]
    end = time.monotonic() + float(sys.argv[3] if len(sys.argv) > 3 else 60)
    while True:
        try:
            print(ask(*ports))
            return
        except (OSError, KeyError, ValueError, IndexError, struct.error) as error:
            if time.monotonic() > end:
                sys.exit(f"answers: {sys.argv[1]} on {sys.argv[2]} does not answer: {error}")
            time.sleep(0.05)


main()
