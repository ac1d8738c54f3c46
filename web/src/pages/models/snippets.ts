/** Code to copy that fetches a checkpoint and prepares an image by its input contract. */

/** The facts of a checkpoint that the code depends on. */
export interface Facts {
  readonly id: string;
  readonly encoder: string;
  readonly sha256: string | null;
  readonly embeddingDim: number;
  readonly inputContract: {
    readonly imageSizePx: number;
    readonly resizeRule: string;
    readonly interpolation: string;
    readonly valueRange: readonly number[];
    readonly channelOrder: string;
    readonly channelMean: readonly number[];
    readonly channelStd: readonly number[];
  };
}

/** Downloads the file, resuming an interrupted download, and checks its sha256. */
export function curlSnippet({ id, sha256 }: Facts, origin: string): string {
  return `curl -C - -o encoder.safetensors '${origin}/checkpoints/${id}/download'
echo '${sha256 ?? ''}  encoder.safetensors' | sha256sum --check`;
}

/**
 * The encoder, its transform, and an embedding: by torchvision where it has the network, otherwise by ONNX Runtime,
 * whose file needs no code of a network.
 */
export function pythonSnippet(facts: Facts): string {
  const { encoder, embeddingDim } = facts;
  if (!encoder.startsWith('RESNET'))
    return `# pip install onnxruntime torch torchvision pillow
# The file: /checkpoints/${facts.id}/download?format=onnx
import onnxruntime
from PIL import Image
from torchvision import transforms

encoder = onnxruntime.InferenceSession("encoder.onnx")

${transformLines(facts)}
image = prepare(Image.open("image.png").convert("RGB")).unsqueeze(0)
(embedding,) = encoder.run(["embeddings"], {"images": image.numpy()})
print(embedding.shape)  # (1, ${embeddingDim})`;
  return `# pip install torch torchvision safetensors pillow
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision import models, transforms

encoder = models.${encoder.toLowerCase()}(weights=None)
encoder.fc = torch.nn.Identity()
encoder.load_state_dict(load_file("encoder.safetensors"))
encoder.eval()

${transformLines(facts)}
image = prepare(Image.open("image.png").convert("RGB")).unsqueeze(0)
with torch.no_grad():
    embedding = encoder(image)
print(embedding.shape)  # torch.Size([1, ${embeddingDim}])`;
}

function transformLines({ inputContract: contract }: Facts): string {
  const size = contract.imageSizePx;
  const how = `${contract.interpolation === 'BICUBIC' ? 'interpolation=transforms.InterpolationMode.BICUBIC, ' : ''}antialias=True`;
  const resize =
    contract.resizeRule === 'STRETCH'
      ? [`    transforms.Resize((${size}, ${size}), ${how}),`]
      : [`    transforms.Resize(${size}, ${how}),`, `    transforms.CenterCrop(${size}),`];
  const [low = 0, high = 1] = contract.valueRange;
  const range = low === 0 && high === 1 ? [] : [`    transforms.Lambda(lambda x: x * ${high - low} + ${low}),`];
  const order = contract.channelOrder === 'BGR' ? ['    transforms.Lambda(lambda x: x.flip(0)),  # RGB to BGR'] : [];
  return `prepare = transforms.Compose([
${[...resize, '    transforms.ToTensor(),', ...range, ...order].join('\n')}
    transforms.Normalize(${JSON.stringify(contract.channelMean)}, ${JSON.stringify(contract.channelStd)}),
])`;
}

/** Node: downloads the checkpoint through GraphQL and checks its sha256. */
export function typescriptSnippet({ id }: Facts, origin: string): string {
  return `import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';

const server = '${origin}';
const query = 'query ($id: ID!) { checkpoint(id: $id) { sha256 downloadUrl inputContract { imageSizePx channelMean channelStd resizeRule } } }';
const answer = await fetch(server + '/graphql', {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ query, variables: { id: '${id}' } }),
});
const { checkpoint } = (await answer.json()).data;
const weights = Buffer.from(await (await fetch(new URL(checkpoint.downloadUrl, server))).arrayBuffer());
if (createHash('sha256').update(weights).digest('hex') !== checkpoint.sha256) throw new Error('The file differs from the registered one.');
await writeFile('encoder.safetensors', weights);
console.log(checkpoint.inputContract);`;
}
