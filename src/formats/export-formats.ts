/** The export formats that are made from the stored safetensors, by name. */
import type { EncoderExport } from './encoder-export.ts';
import { writeOnnx } from './onnx.ts';
import { writeTfjsZip } from './tfjs.ts';
import { writeTorchCheckpoint } from './torch-writer.ts';

export type ExportFormat = 'PYTORCH' | 'ONNX' | 'TFJS';

/**
 * The whole file. The same export gives the same bytes.
 * @throws WeightsMismatchError when the tensors do not fit the architecture.
 */
export function writeExport(format: ExportFormat, source: EncoderExport): Uint8Array<ArrayBuffer> {
  switch (format) {
    case 'PYTORCH':
      return writeTorchCheckpoint(source);
    case 'ONNX':
      return writeOnnx(source);
    case 'TFJS':
      return writeTfjsZip(source);
  }
}
