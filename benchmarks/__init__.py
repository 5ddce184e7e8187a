"""Speed and memory as ratios, each measured side by side in one process: `python -m benchmarks --help`.

A part is a module with `cases(setting)`, which yields a `Case` after another: what stands side by side, and which
ratios of it mean something. Measuring (`measure.py`) and reporting (`report.py`) know nothing else of a part.
"""

PARTS = {
    "image": "visual prompts: training step and evaluation against the frozen model and the plain form",
    "methods": "every method of the image side at the size of configs/protocols/image_methods.yaml, as in image",
    "text_methods": "every method for images and texts at the size of configs/protocols/lit_few_shot.yaml",
    "families": "deep prompts in EVA-02, DINOv3, BEiT and Swin beside ViT, as in image",
    "text": "text prompts: training step against a forward pass of the cut texts, and the plain form over whole ones",
    "switches": "compilation, what is computed again, half precision and texts in chunks, against a step without",
    "bank": "many tasks over one backbone: a batch that mixes them against a model a task, and PEFT's mixed adapters",
    "input_pipeline": "reading images against the model, an epoch against its bare steps, start-up",
}
