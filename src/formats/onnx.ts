/**
 * Networks as ONNX files, for onnxruntime and the many tools that read them: the `./onnx` export. It needs the npm package
 * protobufjs, which is loaded when a file is made.
 *
 * @module
 */

import { ConfigError } from "../errors.ts";
import type { Layer } from "../network/layers.ts";
import { type Network, networkGiven } from "../network/network.ts";
import { writeWhole } from "../run/files.ts";
import { type Attribute, type Constant, encodeModel, type Model, type Node, type Value } from "./onnx_schema.ts";

/** Operators of ONNX 1.16, the first whose GroupNormalization scales channels. */
const OPERATORS = 21;

/** The file format that goes with them. */
const FORMAT = 10;

const [FLOAT, INT64] = [1, 7] as const;

/**
 * Writes a network as an ONNX file.
 *
 * It takes `input`, rows × the network's input in 32-bit floating point (bytes of images after their scale and offset, height ×
 * width × channels), and gives `outputs` (before the loss's softmax or sigmoid) and `predictions` (as `Network.predict`).
 * Dropout is left out, batch norms use their running statistics, weights under masks are written with zeros, and 64-bit
 * networks are rounded.
 *
 * @param network the network
 * @param path the file; the old one survives a fault
 * @throws {CheckpointError} where the file cannot be written
 * @throws {ConfigError} where a number does not fit into 32 bits
 *
 * @example
 * ```ts ignore
 * import { Network } from "@leanprop/leanprop";
 * import { writeOnnx } from "@leanprop/leanprop/onnx";
 * using network = await Network.load("digits.safetensors");
 * await writeOnnx(network, "digits.onnx");
 * ```
 */
export async function writeOnnx(network: Network, path: string | URL): Promise<void> {
  await writeWhole(path, [await onnxBytes(network)]);
}

/**
 * The bytes that {@linkcode writeOnnx} writes.
 *
 * @param network the network
 * @returns the whole file; the same network gives the same bytes
 * @throws {ConfigError} where what is given is no network, or a number does not fit into 32 bits
 */
export async function onnxBytes(network: Network): Promise<Uint8Array<ArrayBuffer>> {
  networkGiven(network);
  return await encodeModel(new Exporter(network).model());
}

/**
 * A value on its way through the graph. Images are height × width × channels here and channels × height × width in most of
 * ONNX's operators: a value stays in the order that the last operator wanted until one wants the other.
 */
interface Flow {
  /** Its name in the graph. */
  readonly name: string;
  /** Shape of a sample, as the network has it. */
  readonly shape: readonly number[];
  /** Whether channels come first. */
  readonly channelsFirst: boolean;
}

/** Turns layers into operators, one after another. */
class Exporter {
  readonly #network: Network;
  readonly #shapes: ReadonlyMap<string, readonly number[]>;
  readonly #nodes: Node[] = [];
  readonly #constants: Constant[] = [];
  #values = 0;

  constructor(network: Network) {
    this.#network = network;
    this.#shapes = new Map(network.describe().layers.map(({ name, shape }) => [name, shape]));
  }

  /** The whole file. */
  model(): Model {
    const { input, layers, loss } = this.#network.config;
    const end = this.#rowsLast(this.#layers(layers, "", { name: "input", shape: input, channelsFirst: false }));
    const rows = end.shape.length === 1 ? end : this.#flat(end);
    const last = { softmaxCrossEntropy: "Softmax", binaryCrossEntropy: "Sigmoid", meanSquaredError: "Identity" };
    this.#node("Identity", [rows.name], { output: "outputs" });
    this.#node(last[loss.kind], ["outputs"], {
      output: "predictions",
      ...(loss.kind === "softmaxCrossEntropy" && { attributes: [whole("axis", -1)] }),
    });
    return {
      irVersion: FORMAT,
      opsetImport: [{ domain: "", version: OPERATORS }],
      producerName: "leanprop",
      graph: {
        name: "network",
        node: this.#nodes,
        initializer: this.#constants,
        input: [value("input", input)],
        output: [value("outputs", rows.shape), value("predictions", rows.shape)],
      },
    };
  }

  #layers(layers: readonly Layer[], prefix: string, from: Flow): Flow {
    return layers.reduce((flow, layer, index) => this.#layer(layer, `${prefix}${index}`, flow), from);
  }

  #layer(layer: Layer, name: string, from: Flow): Flow {
    const shape = this.#shapes.get(name) ?? from.shape;
    const simple = (operator: string, attributes: Attribute[] = []): Flow => ({
      ...from,
      name: this.#node(operator, [from.name], { attributes }),
    });
    switch (layer.kind) {
      case "dense":
        return {
          ...from,
          shape,
          name: this.#node("Gemm", [from.name, this.#tensor(`${name}.weight`), ...this.#bias(layer.bias, name)], {
            attributes: [whole("transB", 1)],
          }),
        };
      case "conv2d": {
        const image = this.#channelsFirst(from);
        const inputs = [image.name, this.#tensor(`${name}.weight`), ...this.#bias(layer.bias, name)];
        const attributes = [...windowOf(layer), whole("group", layer.groups)];
        return { ...image, shape, name: this.#node("Conv", inputs, { attributes }) };
      }
      case "maxPool2d":
      case "avgPool2d": {
        const image = this.#channelsFirst(from);
        const average = layer.kind === "avgPool2d";
        const attributes = [...windowOf(layer), ...(average ? [whole("count_include_pad", 1)] : [])];
        return { ...image, shape, name: this.#node(average ? "AveragePool" : "MaxPool", [image.name], { attributes }) };
      }
      case "globalAvgPool2d": {
        const mean = this.#node("GlobalAveragePool", [this.#channelsFirst(from).name]);
        return { name: this.#node("Flatten", [mean]), shape, channelsFirst: false };
      }
      case "batchNorm": {
        const image = this.#channelsFirst(from);
        const inputs = ["weight", "bias", "running_mean", "running_var"].map((part) => this.#tensor(`${name}.${part}`));
        const attributes = [real("epsilon", layer.epsilon)];
        return { ...image, name: this.#node("BatchNormalization", [image.name, ...inputs], { attributes }) };
      }
      case "groupNorm": {
        const image = this.#channelsFirst(from);
        const inputs = [image.name, this.#tensor(`${name}.weight`), this.#tensor(`${name}.bias`)];
        const attributes = [real("epsilon", layer.epsilon), whole("num_groups", layer.groups)];
        return { ...image, name: this.#node("GroupNormalization", inputs, { attributes }) };
      }
      case "layerNorm": {
        const rows = this.#rowsLast(from);
        const inputs = [rows.name, this.#tensor(`${name}.weight`), this.#tensor(`${name}.bias`)];
        const attributes = [whole("axis", -1), real("epsilon", layer.epsilon)];
        return { ...rows, name: this.#node("LayerNormalization", inputs, { attributes }) };
      }
      case "residual": {
        const body = this.#rowsLast(this.#layers(layer.body, `${name}.body.`, from));
        const shortcut = this.#rowsLast(this.#layers(layer.shortcut, `${name}.shortcut.`, from));
        return { ...body, name: this.#node("Add", [body.name, shortcut.name]) };
      }
      case "softmax": {
        // Over all values of a sample, whatever its shape.
        const rows = this.#rowsLast(from);
        const flat = this.#node("Softmax", [this.#flat(rows).name], { attributes: [whole("axis", -1)] });
        return { ...rows, name: rows.shape.length === 1 ? flat : this.#reshape(flat, rows.shape) };
      }
      case "flatten":
        return this.#flat(this.#rowsLast(from));
      case "dropout":
      case "dropout2d":
        return from;
      case "relu":
        return simple("Relu");
      case "leakyRelu":
        return simple("LeakyRelu", [real("alpha", layer.slope)]);
      case "gelu":
        return simple("Gelu");
      case "tanh":
        return simple("Tanh");
      case "sigmoid":
        return simple("Sigmoid");
    }
  }

  /** Adds an operator with one result; gives its name. */
  #node(
    opType: string,
    input: readonly string[],
    { output, attributes = [] }: { readonly output?: string; readonly attributes?: readonly Attribute[] } = {},
  ): string {
    const name = output ?? `value.${++this.#values}`;
    this.#nodes.push({ name, opType, input, output: [name], attribute: attributes });
    return name;
  }

  /** A value with channels first, where it is an image. */
  #channelsFirst(from: Flow): Flow {
    return from.channelsFirst || from.shape.length !== 3 ? from : this.#transpose(from, [0, 3, 1, 2]);
  }

  /** A value in the network's own order. */
  #rowsLast(from: Flow): Flow {
    return from.channelsFirst ? this.#transpose(from, [0, 2, 3, 1]) : from;
  }

  #transpose(from: Flow, axes: readonly number[]): Flow {
    const name = this.#node("Transpose", [from.name], { attributes: [list("perm", axes)] });
    return { ...from, name, channelsFirst: !from.channelsFirst };
  }

  #flat(from: Flow): Flow {
    if (from.shape.length === 1) return from;
    const shape = [from.shape.reduce((product, axis) => product * axis, 1)];
    return { ...from, shape, name: this.#node("Flatten", [from.name]) };
  }

  #reshape(from: string, shape: readonly number[]): string {
    const name = `${from}.shape`;
    const dims = BigInt64Array.from([-1, ...shape], BigInt);
    this.#constants.push({ name, dims: [dims.length], dataType: INT64, rawData: new Uint8Array(dims.buffer) });
    return this.#node("Reshape", [from, name]);
  }

  #bias(there: boolean, layer: string): string[] {
    return there ? [this.#tensor(`${layer}.bias`)] : [];
  }

  /** Adds a parameter or buffer under its own name. */
  #tensor(name: string): string {
    const dims = this.#network.tensors().find((tensor) => tensor.name === name)!.shape;
    const own = this.#network.read(name, { folded: true });
    const values = Float32Array.from(own);
    const bad = values.findIndex((number) => !Number.isFinite(number));
    if (bad >= 0) throw new ConfigError(name, "numbers that fit into 32 bits", own[bad]);
    this.#constants.push({ name, dims, dataType: FLOAT, rawData: new Uint8Array(values.buffer) });
    return name;
  }
}

/** Kernel, steps and padding of a convolution or a pooling. */
function windowOf(layer: {
  readonly kernel: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly padding: readonly [number, number];
}): Attribute[] {
  const { kernel, stride, padding } = layer;
  return [list("kernel_shape", kernel), list("strides", stride), list("pads", [...padding, ...padding])];
}

function value(name: string, shape: readonly number[]): Value {
  const dim = [{ dimParam: "rows" }, ...shape.map((dimValue) => ({ dimValue }))];
  return { name, type: { tensorType: { elemType: FLOAT, shape: { dim } } } };
}

function real(name: string, f: number): Attribute {
  return { name, type: 1, f };
}

function whole(name: string, i: number): Attribute {
  return { name, type: 2, i };
}

function list(name: string, ints: readonly number[]): Attribute {
  return { name, type: 7, ints };
}
