// The models that a room without a server may draw with, as its host needs to know them.

const MOST_TOKENS = 4096; // of a prompt, where its tokenizer does not say
const TOKENIZER_CONFIG = 'tokenizer/tokenizer_config.json';

/**
 * @typedef {object} HostModel what ModelJson of the server's API says of a model, and
 * @property {string} name @property {string} title @property {boolean} default
 * @property {number} side_multiple @property {number} min_side @property {number} max_side
 * @property {number} default_width @property {number} default_height
 * @property {number} default_steps @property {number} default_guidance
 * @property {string[]} examples
 * @property {number} latent_channels @property {number} vae_scale pixels a cell of the latent
 * @property {number} text_dim features a token @property {number} max_tokens of a prompt
 * @property {string[]} packages ids of the packages whose tabs may compute it
 * @property {Record<string, string>} [variants] how each of these stores the weights
 */

/**
 * A model of which this is one package.
 * @param {string} name @param {import('../engine/manifest.js').Manifest} manifest
 * @param {string[]} packages ids of packages of the model that store weights as this one does
 * @param {boolean} [isDefault]
 * @returns {HostModel}
 * @throws {TypeError} for a manifest that does not say what is needed
 */
export function modelOfManifest(name, manifest, packages, isDefault = true) {
  const { about, configs } = manifest;
  const tokens = configs.get(TOKENIZER_CONFIG)?.model_max_length;
  const model = {
    name,
    title: String(about.title ?? name),
    default: isDefault,
    examples: Array.isArray(about.examples) ? about.examples.map(String) : [],
    max_tokens: Number.isInteger(tokens) && tokens <= MOST_TOKENS ? tokens : MOST_TOKENS,
    packages,
    variants: Object.fromEntries(packages.map((id) => [id, manifest.variant])),
  };
  for (const field of ['side_multiple', 'min_side', 'max_side', 'default_width', 'default_height',
    'default_steps', 'latent_channels', 'vae_scale', 'text_dim', 'default_guidance']) {
    const value = about[field];
    const right = field === 'default_guidance' ? Number.isFinite(value) : Number.isInteger(value);
    if (!right || value < 1) {
      throw new TypeError(`The package of ${name} does not say its ${field}: pack it again.`);
    }
    model[field] = value;
  }
  return model;
}
