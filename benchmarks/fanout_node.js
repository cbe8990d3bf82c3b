// Node's `ws`: one message a round to every client. Says "listening PORT"; obeys "ROUNDS MILLISECONDS BYTES".
const { WebSocketServer } = require("ws");
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false, backlog: 1024 });

function rounds(count, milliseconds, bytes) {
  const start = performance.now();
  let number = 0;
  (function next() {
    number += 1;
    const text = `{"revision":${number},"text":"t=${Math.round((performance.timeOrigin + performance.now()) * 1000)}"}`;
    const message = Buffer.from(text.padEnd(bytes));
    for (const client of server.clients) client.send(message, { binary: false });
    if (number === count) return console.log("done");
    setTimeout(next, Math.max(0, start + number * milliseconds - performance.now()));
  })();
}

server.on("listening", () => console.log(`listening ${server.address().port}`));
process.stdin.on("data", (line) => rounds(...line.toString().split(" ").map(Number)));
process.stdin.on("end", () => process.exit(0));
