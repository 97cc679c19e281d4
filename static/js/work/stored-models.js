// The models that this browser stores, for pages, which know the engine through the work alone.

export { PackageStore as StoredModels } from '../engine/package-store.js';
