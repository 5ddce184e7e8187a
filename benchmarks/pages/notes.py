"""What no code tells of a method: what it learns in one line, when to take it, and when it fails."""

from __future__ import annotations

from typing import NamedTuple


class Note(NamedTuple):
    """Of one method.

    Attributes:
        learned: for the tables.
        take: when it is the one to take.
        fails: when it is not, and why.
        more: what its tuned numbers grow with, where data give them their size.
    """

    learned: str
    take: str
    fails: str
    more: str = ""


# Measured figures are those of docs/results.md, published ones those that the configs under configs/paper name.
NOTES = {
    "2sfs": Note(
        "the norms of both encoders, and then rows of the classes",
        "A few shots a class and one setting for every data set: with 16 it is the best row of the measured table "
        "(74.9 %). The adapted text encoder judges new classes, which rows of classes alone cannot.",
        "With one shot a class seeds came apart (25 ± 16 %), and with one epoch a stage has none. Both encoders are "
        "run in every step of the first stage, texts too, so that it takes far longer than a probe on features.",
    ),
    "adapter": Note(
        "bottlenecks behind attention and MLP (Houlsby), or behind the MLP (Pfeiffer)",
        'To compare with tables that have an "Adapter" row: say which kind. `kind=pfeiffer` has half the numbers.',
        "It is not linear: it stays beside the weights when predicting, small products of every token in every "
        "block. Windows (Swin) and encoders that are not opened have no place for it.",
    ),
    "adapter+": Note(
        "a bottleneck with scaled channels behind each block",
        "One adapter a block, and a scale of each channel that finds how much of it is wanted: no scale has to be "
        "searched for, as with AdaptFormer, Convpass or FacT.",
        "The paper also drops paths of the backbone, which stays in evaluation mode here, so that its figures may "
        "lie above what this gives. It is not merged with the weights.",
    ),
    "adaptformer": Note(
        "a narrow MLP beside each MLP",
        "Enough images for a million numbers at rank 64, as in the paper; with few take `rank=8`, as tables of "
        "VTAB-1k do. It begins as the frozen model.",
        "`scale` is fixed and counts for much: with 0.1 a small rate hardly moves the model. It is not merged "
        "with the weights.",
    ),
    "atprompt": Note(
        "context between words of attributes",
        "New classes are to come, and they share attributes with those of training (colour and shape of things).",
        "The attributes are the ones that the paper found for ImageNet; it searches for others on each data set, "
        "and that search is not here. Wrong ones are words that every text says in vain: in the measured table it is "
        "below zero-shot on new classes (21.9 against 28.5 %).",
    ),
    "bias": Note(
        "every bias",
        "A few images a class: of the measured table on Caltech-101 with 16 shots it is the best row, 2 points "
        "above deep prompts.",
        "The weights of the backbone itself change, so that in a bank it is a pass of its own, and the backward "
        "pass goes through every block. Beside `norm` or `full` it is refused, as both take the biases.",
    ),
    "clap": Note(
        "as `linear-text`, held near the text features of classes that zero-shot knows well",
        "A few shots, and no validation images to choose anything by: how much each class is held follows from "
        "what zero-shot says of its training images.",
        "Where zero-shot knows none of the classes nothing holds the rows, and it is `linear-text`. New classes "
        "are judged by their texts alone, as with zero-shot.",
        "512 a class",
    ),
    "clip-adapter": Note(
        "two layers on image features",
        "Seconds on a CPU: image features are computed once. The network goes with other class names than it "
        "learned on.",
        "`ratio`, how much of its features counts, is not learned: 0.2 is the paper's for most data sets, and far "
        "from the pretraining a larger one is better, which validation images have to say. In the measured table it "
        "moves images away from the names of new classes (19.4 %, zero-shot 28.5).",
    ),
    "clip-lora": Note(
        "low-rank changes of q, k and v in both encoders",
        "4 shots a class or more, and pictures that CLIP has seen few of: it moves both encoders.",
        "The texts of all classes go through the text encoder in every step, with a backward pass. It keeps its "
        "dropout of 0.25 with one shot too, where little is left to learn from.",
    ),
    "cocoop": Note(
        "context that an image shifts",
        "New classes are to come, and images of one class differ so much that one context does not fit all.",
        "The texts of all classes are encoded anew for each image, in training and when predicting: dear with "
        "many classes. There are no text features to export, to search by or to train captions with.",
    ),
    "convpass": Note(
        "convolutions over the patches beside attention and MLP",
        "Few images of a kind that the backbone has not seen: a convolution looks at neighbouring patches from "
        "the start, which attention has to learn.",
        "The patches have to be a grid. `scale` is chosen for each data set from 0.01 to 100, on validation "
        "images; with the default alone the published figures are not to be expected.",
    ),
    "coop": Note(
        "context before, around or behind the class name, for all classes or for each",
        "The first thing to try where class names mean something to the model, and the names stay the same.",
        "On classes that it has not seen its published mean is 63.2 %, where zero-shot has 74.2; in the measured "
        "table both have 28.5. Where names are the bottleneck it hardly helps. `csc=true` has no context for new ones.",
    ),
    "coprompt": Note(
        "as `maple`, a small network behind each encoder, held near other words and views in the frozen model",
        "Few shots and new classes to come: what is learned has to agree with the frozen model on another view and "
        "another sentence.",
        "Every step also runs the frozen image encoder on a second view. The sentences of the published figure come "
        "from GPT-3 and are the authors' (`sentences=FILE`); without them OpenAI's 80 templates are drawn from. "
        "`weight` is chosen for each data set.",
    ),
    "cross-modal": Note(
        "as `linear-text`, trained on texts of the classes too",
        "One or two shots: the text of a class is one more example of it, from the first step on.",
        "Texts are only as good as the names; with codes or numbers as class names half of the loss is noise. New "
        "classes are judged by their texts alone.",
        "512 a class",
    ),
    "dept": Note(
        "a head of the classes beside a prompt method: `method: [kgcoop, dept]`",
        "Beside any prompt method, where the classes of training matter more than its prompts let them.",
        "By itself it learns a head and no prompts, which `linear-text` does better. New classes get nothing of it.",
    ),
    "e2vpt": Note(
        "prompts, and keys and values of attention",
        "As `vpt-deep`, where few prompts are to do more.",
        "Prompts are not pruned, as in the published commands but not as in the paper's idea, so that it is not "
        "smaller than `vpt-deep`. Beside `prefix` or other prompts it is refused: they take the same place.",
    ),
    "fact": Note(
        "changes of all linear layers as one tensor in factors, TT or TK",
        "The fewest numbers that reach every linear layer of every block, and nothing to pay when predicting.",
        "`scale` is chosen for each data set from 0.01 to 100, on validation images. It takes q, k, v, the "
        "projection and the MLP, so that `lora` and `clip-lora` do not go beside it; an MLP of another width than "
        "four times the tokens' is refused.",
    ),
    "full": Note(
        "everything",
        "As the row that others are compared with, and where there are thousands of images a class.",
        "With 16 shots of Caltech-101 it is no better than every bias, at 120 times the numbers. It wants a rate "
        "a hundred times lower than prompts (0.00003 was chosen, where prompts chose 0.003), and what is saved is "
        "the whole backbone.",
    ),
    "gate-vpt": Note(
        "prompts before the first block, gates of what each block makes of them, temperatures of attention",
        "Backbones of self-supervised training (MAE, MoCo), which the paper is about: which block prompts should "
        "speak to differs there.",
        "Prompts are advanced with the image through every block, a hundred of them by default: the dearest of "
        "the prompt methods in time. Temperatures need blocks that are opened.",
    ),
    "gda": Note(
        "Gaussians of the training images' features, in closed form",
        "Seconds, without any training: 4 shots a class or more, and a covariance that all classes may share.",
        "With one shot a class the covariance is hardly known. `alpha` is chosen on validation images, and counts for "
        "much: 69.3 % in the measured table with 16 shots, and 53.8 % at its default, where it stays without any. A "
        "class without a training image is refused.",
    ),
    "ivlp": Note(
        "prompts in the first blocks of both encoders",
        "Both sides have something to learn, and the classes stay the same; the plain baseline of `maple` and "
        "`promptsrc`.",
        "Trained for long it forgets other classes: published means on new ones are 74.07 % after 5 epochs, and "
        "71.79 % after 20 with more tokens.",
    ),
    "kgcoop": Note(
        "context held near the hand-written one, in features",
        "New classes are to come: it keeps what the hand-written template knows of them.",
        "The same weight that keeps new classes holds back those of training. With a template that does not fit "
        "the pictures it is held near the wrong thing.",
    ),
    "linear": Note(
        "nothing but the head",
        "First of all, as the row to beat: seconds, on any encoder.",
        "Pictures of another kind or size than the backbone was trained on: 15 points behind deep prompts on "
        "Caltech-101 at half the side of its images.",
    ),
    "linear-text": Note(
        "a linear probe that starts from the text features",
        "A few shots with CLIP: never below zero-shot at the start, and seconds on a CPU.",
        "With one shot it can leave a good start for a worse place: `clap` holds it. New classes are judged by "
        "their texts alone.",
        "512 a class",
    ),
    "lora": Note(
        "low-rank changes of q, k, v, output and MLP",
        "Something that is to cost nothing when predicting (`compile_prompts`), and to be told as LoRA.",
        "Not where queries and keys are normed before they are compared, in windows, or beside `clip-lora` and "
        "`fact` on the same projections. A rank that is large for the images learns them by heart.",
    ),
    "lp++": Note(
        "a linear probe blended with text features, learning rates from the features",
        "No rate to search for: `lr=1` is the paper's for all data sets, all training images are one batch, and "
        "it takes seconds.",
        "All features of training images are in memory at once, and no other rate, schedule or batch is the "
        "paper's. New classes are judged by their texts alone.",
        "514 a class",
    ),
    "lst": Note(
        "a small transformer beside the frozen one, which keeps nothing for a backward pass",
        "Memory is short in training: no backward pass goes through the encoder.",
        "It adds a tenth to the operations of every prediction, for good, and begins at random, where the paper "
        "prunes the encoder for a start. Nothing else may be learned inside the encoder beside it.",
    ),
    "maple": Note(
        "text prompts, and image prompts made from them",
        "New classes are to come and both encoders should move together.",
        "3.6 million numbers, nearly all of them in the layers between the sides: with few images it depends on "
        "the seed. On the measuring model here, whose texts are weak, it is not told apart from `ivlp`.",
    ),
    "mma": Note(
        "adapters in both encoders that share a layer",
        "Base and new classes both count, and the later blocks of both encoders are opened.",
        "`scale` is left out of the backward pass, as in the paper's code, so that rates are those of its SGD: "
        "another optimizer wants another one. It is not merged with the weights.",
    ),
    "mmrl": Note(
        "tokens of a shared space in the last blocks of both encoders, read out beside the class token",
        "Trained classes are to gain while new ones are judged by a feature that hardly changes.",
        "`weight` is chosen for each data set from 0.01 to 7 in the paper. 5 million numbers are most that "
        "prompts ask for, and the text side grows longer from the middle on.",
    ),
    "norm": Note(
        "every norm",
        "As few numbers as shallow prompts, and nothing to pay when predicting.",
        "Beside `bias` or `full` it is refused, as both take the biases of the norms. In a bank it is a pass of "
        "its own.",
    ),
    "partial-k": Note(
        "the last k blocks",
        "Between a linear probe and tuning everything, on any encoder, ResNets and ConvNeXts too.",
        "7 million numbers a block of ViT-B. Pictures that differ in edges and texture need the early blocks, "
        "which stay as they are.",
    ),
    "pixel": Note(
        "a frame, a patch or a low-rank pattern added to the pixels, for any encoder; its own classes can stand "
        "for new ones",
        "The encoder cannot be entered at all, or only its predictions are to be had (`mapping`).",
        "Nothing in the encoder moves. The paper takes a rate of 40 and 1,000 epochs, each step goes through the "
        "whole encoder backwards, and what is learned holds for images of one size.",
    ),
    "prefix": Note(
        "keys and values of attention",
        "What prompts are attended to as, without the projections that prompts go through: nothing to fold when "
        "predicting.",
        "Keys and values do not begin near what the block makes of tokens, and are slow to get there: the rate "
        "matters more than with prompts. Blocks have to be opened.",
    ),
    "prograd": Note(
        "context held near the hand-written one, in gradients",
        "Few shots, where CoOp learns them by heart: no step is taken against the hand-written templates.",
        "The gradient is corrected for a batch as a whole, so that no largest batch is searched for and large "
        "steps are made whole. Where templates are wrong, what they say is kept too.",
    ),
    "prolip": Note(
        "the projection of the image encoder, held near the pretrained one",
        "One matrix, on features that are computed once: seconds on a CPU, and new classes are judged by it too.",
        "Encoders whose last map to features is no single matrix are refused. The paper encodes 300 views of each "
        "image first, which takes most of the time: `train.views=20` will do.",
    ),
    "promptkd": Note(
        "image prompts that learn from a larger model what unlabelled images are, with its texts as classifier",
        "There is a trained model on a larger encoder that is too slow to serve, and images without labels: the "
        "student learns its answers, and is as fast as its own encoder.",
        "It is as good as its teacher at most, and knows the classes alone whose names the teacher was given in "
        "training. The published rows have seen images and names of the new classes, which those of other methods "
        "have not. A batch needs two images.",
        "986,112 with ViT-L/14 as teacher",
    ),
    "promptsrc": Note(
        "as `ivlp`, held near the frozen model, averaged over epochs",
        "New classes are to come, and there is time: the published harmonic mean is 79.97, where those of `ivlp` "
        "are 77.5 and 77.9.",
        "Every step also runs the frozen model on the image: twice the seconds of `ivlp` in the measured table. It "
        "is whole after its last epoch alone, so that no earlier one is kept, and ending early ends it "
        "early.",
    ),
    "repadapter": Note(
        "linear adapters before attention and MLP",
        "As `lora`, with the change before the layer: nothing to pay when predicting.",
        "`scale` is chosen for each data set from 0.1 to 10. Not where queries and keys are normed or the MLP "
        "does not show its layers, and not in windows.",
    ),
    "spt": Note(
        "prompts that begin as tokens of training images, or as the mean or maximum of clusters of them",
        "Many prompts and few epochs: they begin among the tokens that the blocks know, and need no long way there.",
        "The first epoch has to look at training images first, so that there must be as many patch tokens as "
        "prompts. After long training little of the start is left.",
    ),
    "ssf": Note(
        "a scale and a shift of each channel behind every operation",
        "A quarter of a percent of the backbone, merged with it when predicting.",
        "All activations are kept for the backward pass, which makes it heavier in training than its numbers say. "
        "The patch embedding has to be a convolution, and the MLP to show its layers.",
    ),
    "taskres": Note(
        "a residual of each class's text feature",
        "Seconds on a CPU, and the start is zero-shot exactly.",
        "`alpha` bounds how far a step leads: 0.5 is too small where names say little. Classes that were not "
        "trained have no residual.",
        "512 a class",
    ),
    "tcp": Note(
        "context, and a network that makes each class its own from its text feature",
        "Base and new classes both count: a new name makes its own prompts.",
        "From the middle of the text encoder on each class has tokens of its own, so that less of the texts is "
        "shared than with CoOp. Captions have no class names to make prompts of, and are refused.",
    ),
    "tip-adapter": Note(
        "a cache of the training images' features, which nothing trains",
        "A few shots, in seconds: no training at all.",
        "It knows the classes of its cache alone. `alpha` and `beta` want validation images; with the defaults it "
        "can be below zero-shot. The cache grows with the training images.",
    ),
    "tip-adapter-f": Note(
        "the keys of such a cache",
        "16 shots a class, in seconds on a CPU, where names are weak: 51.8 % in the measured table, and 55.6 % with "
        "`alpha` and `beta` searched for, where prompts come to 39.3 %.",
        "It knows the classes of its cache alone, so that `base-to-new` refuses it. Rows of classes, which cost as "
        "little, are 10 points and more above it in the same table (`linear-text`, `taskres`, `lp++`).",
        "512 a training image",
    ),
    "vapt": Note(
        "prompts that are made of the image's tokens",
        "Images of one size that differ much among each other, where one set of prompts does not fit all.",
        "Prompts differ for each image, so that their keys and values are no constants: predicting costs 1.5 % "
        "more, and images of another size are refused.",
    ),
    "vfpt": Note(
        "prompts, half of which enter as their Fourier transform",
        "As `vpt-deep`, where the pictures are far from those of pretraining, says its paper.",
        "`share` is chosen for each data set from 0 to 1; 0 is `vpt-deep`. When predicting the transforms are "
        "constants, and nothing is won or lost in time.",
    ),
    "vpt-deep": Note(
        "prompts before every block, or the first or last n",
        "First, where pictures differ from those of pretraining and are few: 15 points above a linear probe on "
        "Caltech-101 with 16 shots.",
        "It wants a rate of its own, chosen for the number of images: with one shot and the rate that 4 shots "
        "chose it lost to not training at all (16.7 against 23.4 %).",
    ),
    "vpt-shallow": Note(
        "prompts before the first block",
        "The fewest numbers of all prompts in the encoder, and a start for reading the code.",
        "They are advanced through every block, 50 of them for a quarter of the operations again, and still "
        "nearly 4 points behind deep prompts on Caltech-101.",
    ),
    "zero-shot": Note(
        "nothing: hand-written templates",
        "No pictures at all, and always as the row to beat.",
        "Names that the model has not met, such as codes. More templates are not always better: 7 of them cost "
        "clip-nano 4 points on CIFAR-10.",
    ),
}
