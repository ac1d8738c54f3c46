/**
 * Writes PyTorch's zip checkpoint, as `torch.save` does for an encoder's state dict.
 *
 *   state = torch.load('encoder.pt', weights_only=True)
 *   model = torchvision.models.resnet18(); model.fc = torch.nn.Identity(); model.load_state_dict(state, strict=True)
 *
 * The archive holds a pickle (protocol 2) that names four globals only, all on PyTorch's list of safe ones, and one
 * file for each tensor's numbers.
 */
import { checkedEncoder, exportMetadata } from './encoder-export.ts';
import type { EncoderExport } from './encoder-export.ts';
import { writeStoredZip } from './stored-zip.ts';

/** PyTorch's own alignment, so that a checkpoint can be mapped into memory. */
const ALIGNMENT_BYTES = 64;

interface StateTensor {
  readonly name: string;
  readonly storage: 'FloatStorage' | 'LongStorage';
  readonly shape: readonly number[];
  readonly data: Float32Array | BigInt64Array;
}

/**
 * The same export gives the same bytes. In addition to the state dict, `archive/paraffin.json` contains the input
 * contract and the metadata; `torch.load` ignores it.
 *
 * @throws WeightsMismatchError when the tensors do not fit the architecture.
 */
export function writeTorchCheckpoint(source: EncoderExport): Uint8Array<ArrayBuffer> {
  const tensors = stateDict(source);
  const text = new TextEncoder();
  return writeStoredZip(
    [
      { name: 'archive/data.pkl', data: pickledStateDict(tensors) },
      { name: 'archive/byteorder', data: text.encode('little') },
      { name: 'archive/paraffin.json', data: text.encode(JSON.stringify(Object.fromEntries(exportMetadata(source)))) },
      ...tensors.map(({ data }, index) => ({
        name: `archive/data/${index}`,
        data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
      })),
      { name: 'archive/version', data: text.encode('3\n') },
    ],
    ALIGNMENT_BYTES,
  );
}

/** In the order of the network's `state_dict()`. */
function stateDict({ architecture, tensors }: EncoderExport): StateTensor[] {
  const checked = checkedEncoder(architecture, tensors);
  return checked.description.tensors.map(({ name, shape }): StateTensor => {
    const tensor = checked.tensors.get(name);
    if (tensor?.dtype === 'F32') return { name, shape, storage: 'FloatStorage', data: tensor.data };
    // A batch count that the weights lack (PyTorch before 0.4.1) is 0.
    const data = tensor?.dtype === 'I64' ? tensor.data : new BigInt64Array(1);
    return { name, shape, storage: 'LongStorage', data };
  });
}

/** Opcodes of CPython's pickletools. */
const OP = {
  proto: 0x80,
  stop: 0x2e,
  mark: 0x28,
  global: 0x63,
  reduce: 0x52,
  setItems: 0x75,
  persistentId: 0x51,
  tuple: 0x74,
  emptyTuple: 0x29,
  unicode: 0x58,
  int1: 0x4b,
  int2: 0x4d,
  int4: 0x4a,
  newFalse: 0x89,
} as const;

function pickledStateDict(tensors: readonly StateTensor[]): Uint8Array {
  const bytes: number[] = [OP.proto, 2];
  const utf8 = new TextEncoder();
  const global = (module: string, name: string): void =>
    void bytes.push(OP.global, ...utf8.encode(`${module}\n${name}\n`));
  const string = (value: string): void => {
    const encoded = utf8.encode(value);
    bytes.push(OP.unicode, ...littleEndian(encoded.length, 4), ...encoded);
  };
  const natural = (value: number): void => {
    if (value < 0x100) bytes.push(OP.int1, value);
    else if (value < 0x1_0000) bytes.push(OP.int2, ...littleEndian(value, 2));
    else bytes.push(OP.int4, ...littleEndian(value, 4));
  };
  const naturals = (values: readonly number[]): void => {
    bytes.push(OP.mark);
    values.forEach(natural);
    bytes.push(OP.tuple);
  };
  const emptyOrderedDict = (): void => {
    global('collections', 'OrderedDict');
    bytes.push(OP.emptyTuple, OP.reduce);
  };

  emptyOrderedDict();
  bytes.push(OP.mark);
  tensors.forEach(({ name, storage, shape, data }, index) => {
    string(name);
    // torch._utils._rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, backward_hooks)
    global('torch._utils', '_rebuild_tensor_v2');
    bytes.push(OP.mark, OP.mark);
    string('storage');
    global('torch', storage);
    string(String(index));
    string('cpu');
    natural(data.length);
    bytes.push(OP.tuple, OP.persistentId);
    natural(0);
    naturals(shape);
    naturals(rowMajorStrides(shape));
    bytes.push(OP.newFalse);
    emptyOrderedDict();
    bytes.push(OP.tuple, OP.reduce);
  });
  bytes.push(OP.setItems, OP.stop);
  return Uint8Array.from(bytes);
}

function rowMajorStrides(shape: readonly number[]): number[] {
  return shape.map((_, axis) => shape.slice(axis + 1).reduce((product, side) => product * side, 1));
}

function littleEndian(value: number, byteCount: number): number[] {
  return Array.from({ length: byteCount }, (_, index) => (value >>> (8 * index)) & 0xff);
}
