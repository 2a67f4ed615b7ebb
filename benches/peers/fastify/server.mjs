// A receiver as people would write it: verify the signature, publish to a quorum queue, answer when the broker has confirmed.
import { createHmac, timingSafeEqual } from "node:crypto";
import amqplib from "amqplib";
import Fastify from "fastify";

const SECRET = "0123456789abcdef0123456789abcdef";
const QUEUE = "fastify";

const connection = await amqplib.connect(process.env.QUEUE_URL, { noDelay: true });
const channel = await connection.createConfirmChannel();
await channel.assertQueue(QUEUE, { durable: true, arguments: { "x-queue-type": "quorum" } });
await channel.purgeQueue(QUEUE);

const isSigned = (body, header) => {
  const bytes = Buffer.from(header ?? "", "base64");
  const colon = bytes.indexOf(":");
  const given = bytes.subarray(colon + 1);
  const wanted = createHmac("sha256", SECRET).update(body).digest();
  return colon > 0 && given.length === wanted.length && timingSafeEqual(given, wanted);
};

const server = Fastify({ logger: false, bodyLimit: 1 << 20 });
server.addContentTypeParser("application/json", { parseAs: "buffer" }, (_, body, done) => done(null, body));
server.post("/webhooks/espocrm", async (request, reply) => {
  if (!isSigned(request.body, request.headers["x-signature"])) return reply.code(401).send();
  await new Promise((resolve, reject) => {
    channel.sendToQueue(QUEUE, request.body, { persistent: true, mandatory: true }, (error) => (error ? reject(error) : resolve()));
  });
  return reply.code(200).send();
});
console.log(await server.listen({ host: "127.0.0.1", port: 0 }));
process.stdin.resume();
