// Asks a genaug server for images, made from its protos alone. `npm start -- --help` says how.
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import protobuf from "protobufjs";

// The fields that are read here; the protos have the rest.
interface Receipt { class_name: string; seed: string; index: string }
interface Progress { done: string; total: string; steps: string; steps_total: string; queue_position: string }
type Event =
  | { event: "progress"; progress: Progress }
  | { event: "image"; image: { data: Buffer; receipt: Receipt } }
  | { event: "rejected"; rejected: { reason: string; receipt: Receipt } };

/** What the server refused, with its word for programs (google.rpc.ErrorInfo), such as "BAD_SAMPLER". */
class GenaugError extends Error {
  constructor(readonly code: string, readonly reason: string, message: string) {
    super(message);
  }
}

const DETAILS = protobuf.parse(`syntax = "proto3"; package google;
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }`, { keepCase: true }).root;

function translated(error: unknown): unknown {
  if (!isServiceError(error)) return error;
  const code = grpc.status[error.code] ?? String(error.code);
  const packed = error.metadata?.get("grpc-status-details-bin")[0];
  if (!Buffer.isBuffer(packed)) return new GenaugError(code, code, error.details);
  const status = DETAILS.lookupType("google.Status").decode(packed).toJSON();
  const info = status.details?.find((one: { type_url: string }) => one.type_url.endsWith("google.rpc.ErrorInfo"));
  const said = info && DETAILS.lookupType("google.ErrorInfo").decode(Buffer.from(info.value, "base64")).toJSON();
  return new GenaugError(code, said?.reason ?? code, status.message ?? error.details);
}

function isServiceError(error: unknown): error is grpc.ServiceError {
  return error instanceof Error && "details" in error && "metadata" in error;
}

const { values } = parseArgs({
  options: {
    endpoint: { type: "string", default: "127.0.0.1:50051" },
    token: { type: "string", default: process.env.GENAUG_AUTH__TOKEN ?? "" },
    generator: { type: "string", default: "" },
    class: { type: "string", default: "" },
    count: { type: "string", default: "1" },
    seed: { type: "string", default: "0" },
    steps: { type: "string", default: "0" },
    profile: { type: "string", default: "FULL" },
    format: { type: "string", default: "PNG" },
    deadline: { type: "string", default: "600" },
    output: { type: "string", short: "o", default: "images" },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help || !values.generator || !values.class) {
  console.error("npm start -- --generator generators/… --class CLASS [--count 1] [--seed 0] [--steps 0] [--profile FULL]\n" +
    "  [--format PNG] [--output images] [--endpoint HOST:PORT, unix:/PATH or https://HOST:PORT] [--token …] [--deadline SECONDS]");
  process.exit(values.help ? 0 : 2);
}

// An enum's word that is none would be sent as the default.
for (const [word, words] of [[values.profile, ["FULL", "TURBO"]], [values.format, ["PNG", "JPEG"]]] as const) {
  if ((words as readonly string[]).includes(word)) continue;
  console.error(`${word} is none of ${words.join(", ")}`);
  process.exit(2);
}

const protos = fileURLToPath(new URL("../../../../protos", import.meta.url));
const definition = loadSync("genaug/v1/generation_service.proto",
  { includeDirs: [protos], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true });
const { GenerationService } = (grpc.loadPackageDefinition(definition) as any).genaug.v1;
const secure = values.endpoint.startsWith("https://");
const client = new GenerationService(
  values.endpoint.replace(/^https?:\/\//, ""),
  secure ? grpc.credentials.createSsl() : grpc.credentials.createInsecure(),
  // An image has up to 4 MB, and its receipt comes with it.
  { "grpc.max_receive_message_length": 8 * 1024 * 1024 },
);

const metadata = new grpc.Metadata();
if (values.token) metadata.set("authorization", `Bearer ${values.token}`);
const call: grpc.ClientReadableStream<Event> = client.GenerateImages({
  generator: values.generator,
  counts: [{ class_name: values.class, count: values.count }],
  seed: values.seed,
  sampler: { steps: Number(values.steps), profile: `PROFILE_${values.profile}` },
  output: "OUTPUT_INLINE",
  format: `FORMAT_${values.format}`,
}, metadata, { deadline: Date.now() + 1000 * Number(values.deadline) });
process.once("SIGINT", () => call.cancel());

let [images, rejected] = [0, 0];
mkdirSync(values.output, { recursive: true });
try {
  for await (const event of call) {
    if (event.event === "progress") {
      const { done, total, steps, steps_total, queue_position } = event.progress;
      const waiting = queue_position === "0" ? "" : `, ${queue_position} requests before it`;
      console.log(`${done}/${total} images, ${steps}/${steps_total} steps${waiting}`);
    } else if (event.event === "image") {
      const { data, receipt } = event.image;
      const stem = join(values.output, `${encodeURIComponent(receipt.class_name)}-${receipt.seed}-${receipt.index}`);
      writeFileSync(`${stem}.${values.format === "JPEG" ? "jpg" : "png"}`, data);
      writeFileSync(`${stem}.json`, JSON.stringify(receipt, null, 2));
      images += 1;
    } else {
      console.log(`draw ${event.rejected.receipt.index} is no image: ${event.rejected.reason}`);
      rejected += 1;
    }
  }
  console.log(`${values.output}: ${images} images with receipts, ${rejected} draws rejected`);
} catch (error) {
  const known = translated(error);
  if (!(known instanceof GenaugError)) throw known;
  console.error(`${known.code}: ${known.message} [${known.reason}] after ${images} images`);
  process.exitCode = known.code === "CANCELLED" ? 130 : 1;
} finally {
  client.close();
}
