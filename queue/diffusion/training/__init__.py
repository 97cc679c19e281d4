"""Training of PRX-Emoji, the small model that ships with the project.

`python -m diffusion.training` does all of it: glyphs, tokenizer, VAE, transformer with text
encoder, export. Nothing outside this folder imports it.
"""
