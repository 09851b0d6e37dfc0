/**
 * The messages of an ONNX file that an export needs: names, numbers and types of their fields, as onnx.proto3 gives them.
 *
 * @module
 */

/** One attribute of an operator. */
export interface Attribute {
  /** Its name. */
  readonly name: string;
  /** 1: `f`, 2: `i`, 7: `ints`. */
  readonly type: number;
  /** A number. */
  readonly f?: number;
  /** A whole number. */
  readonly i?: number;
  /** Whole numbers. */
  readonly ints?: readonly number[];
}

/** One operator. */
export interface Node {
  /** Its name. */
  readonly name: string;
  /** What it does, such as `Gemm`. */
  readonly opType: string;
  /** Names of the values that it reads. */
  readonly input: readonly string[];
  /** Names of the values that it makes. */
  readonly output: readonly string[];
  /** Its attributes. */
  readonly attribute: readonly Attribute[];
}

/** A tensor with its values. */
export interface Constant {
  /** Its name. */
  readonly name: string;
  /** Its shape. */
  readonly dims: readonly number[];
  /** 1: 32-bit floating point, 7: 64-bit whole numbers. */
  readonly dataType: number;
  /** Its values, little-endian. */
  readonly rawData: Uint8Array;
}

/** An input or output. */
export interface Value {
  /** Its name. */
  readonly name: string;
  /** Its element type and shape. */
  readonly type: {
    /** A tensor. */
    readonly tensorType: {
      /** As `dataType` of a tensor. */
      readonly elemType: number;
      /** Lengths or names of its axes. */
      readonly shape: { readonly dim: readonly { readonly dimValue?: number; readonly dimParam?: string }[] };
    };
  };
}

/** A whole file. */
export interface Model {
  /** Version of the file format. */
  readonly irVersion: number;
  /** Version of the operators. */
  readonly opsetImport: readonly { readonly domain: string; readonly version: number }[];
  /** Who wrote it. */
  readonly producerName: string;
  /** The operators. */
  readonly graph: {
    /** Name of the graph. */
    readonly name: string;
    /** The operators, in order. */
    readonly node: readonly Node[];
    /** Weights and other constants. */
    readonly initializer: readonly Constant[];
    /** What it takes. */
    readonly input: readonly Value[];
    /** What it gives. */
    readonly output: readonly Value[];
  };
}

type Field = readonly [id: number, type: string, rule?: "repeated"];

const messages: Readonly<Record<string, Readonly<Record<string, Field>>>> = {
  ModelProto: {
    irVersion: [1, "int64"],
    producerName: [2, "string"],
    graph: [7, "GraphProto"],
    opsetImport: [8, "OperatorSetIdProto", "repeated"],
  },
  OperatorSetIdProto: { domain: [1, "string"], version: [2, "int64"] },
  GraphProto: {
    node: [1, "NodeProto", "repeated"],
    name: [2, "string"],
    initializer: [5, "TensorProto", "repeated"],
    input: [11, "ValueInfoProto", "repeated"],
    output: [12, "ValueInfoProto", "repeated"],
  },
  NodeProto: {
    input: [1, "string", "repeated"],
    output: [2, "string", "repeated"],
    name: [3, "string"],
    opType: [4, "string"],
    attribute: [5, "AttributeProto", "repeated"],
  },
  AttributeProto: {
    name: [1, "string"],
    f: [2, "float"],
    i: [3, "int64"],
    ints: [8, "int64", "repeated"],
    type: [20, "int32"],
  },
  TensorProto: { dims: [1, "int64", "repeated"], dataType: [2, "int32"], name: [8, "string"], rawData: [9, "bytes"] },
  ValueInfoProto: { name: [1, "string"], type: [2, "TypeProto"] },
  TypeProto: { tensorType: [1, "TensorTypeProto"] },
  TensorTypeProto: { elemType: [1, "int32"], shape: [2, "TensorShapeProto"] },
  TensorShapeProto: { dim: [1, "DimensionProto", "repeated"] },
  DimensionProto: { dimValue: [1, "int64"], dimParam: [2, "string"] },
};

/**
 * The bytes of a file. The library that encodes them is loaded here, at the first use.
 *
 * @param model what the file holds
 * @returns its bytes
 */
export async function encodeModel(model: Model): Promise<Uint8Array<ArrayBuffer>> {
  const { default: protobuf } = await import("protobufjs");
  const nested = Object.fromEntries(
    Object.entries(messages).map(([name, fields]) => [name, {
      fields: Object.fromEntries(
        Object.entries(fields).map(([field, [id, type, rule]]) => [field, { id, type, ...(rule && { rule }) }]),
      ),
    }]),
  );
  const type = protobuf.Root.fromJSON({ nested }).lookupType("ModelProto");
  return new Uint8Array(type.encode(model).finish());
}
