// Which stored packages are in use, in any tab or Worker of this browser: each reader holds a lock
// that ends with it, however it ended. Where there are no locks (Node), nobody else is there.

const nameOf = (packageId) => `p2pweb-model-${packageId}`;

/**
 * Says that a package is in use until the signal aborts.
 * @param {string} packageId
 * @param {AbortSignal} signal
 */
export function holdInUse(packageId, signal) {
  const ended = new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', resolve);
  });
  globalThis.navigator?.locks
    ?.request(nameOf(packageId), { mode: 'shared' }, () => ended)
    .catch(() => {}); // the page is going
}

/**
 * Does `work` unless the package is in use; readers that are opened meanwhile are not kept waiting.
 * @param {string} packageId
 * @param {() => Promise<void>} work
 * @returns {Promise<boolean>} whether it was done
 */
export async function ifUnused(packageId, work) {
  return navigator.locks.request(nameOf(packageId), { ifAvailable: true }, async (lock) => {
    if (lock) await work();
    return lock !== null;
  });
}
