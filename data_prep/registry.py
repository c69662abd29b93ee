"""The datasets the kit can prepare: one entry each, with the facts a user or a check needs.

Adding a dataset is one entry here and, only where its raw layout is new, one short function in
`layouts.py` (or in `cuts.py`, where the protocol cuts the images).
"""

from dataclasses import dataclass
from typing import Literal

from data_prep import cuts, layouts
from data_prep.cuts import Cut
from data_prep.layouts import Layout
from fap_lib.core.errors import KitError, nearest
from fap_lib.data.manifest import MaskRule

Counts = tuple[int, int]
"""Normal and anomalous test images."""


@dataclass(frozen=True)
class Archive:
    """A file of a download. sha256: where a source states it. address: where anyone may fetch it from."""

    name: str
    sha256: str | None = None
    address: str | None = None


@dataclass(frozen=True)
class Dataset:
    """What is known of one dataset.

    name, paper, loader: our name, the paper's, and the official code's `--dataset`. shows: what is on the
        images. archives: the files of a download, all of them needed.
    terms: licence and terms in one line. by_hand: how to get it without this command.
    raw: the raw layout in words. signs: what lies in the root of a raw download, as file patterns; any one of
        the alternatives. Without signs: folders `test` of more than half of the categories.
    named: what the path of the root must contain, where the content cannot tell two datasets apart.
    layout or cut: from the raw root to records; `cut` for protocols that write pieces of the images.
    counts: test images per category, None where no source states them; the categories are called as in
        the official code. total: of all categories. train: train images, None where no source states them.
    kaggle, drive: a Kaggle dataset; a Google Drive file or folder.
    """

    name: str
    paper: str
    shows: str
    loader: str
    domain: Literal["industrial", "medical"]
    source: str
    terms: str
    citation: str
    by_hand: str
    raw: str
    counts: dict[str, Counts | None]
    total: Counts
    layout: Layout | None = None
    cut: Cut | None = None
    train: int | None = 0
    masks: bool = True
    mask_rule: MaskRule = "nonzero"
    protocol: str = "the published test split"
    notes: str = ""
    archives: tuple[Archive, ...] = ()
    signs: tuple[tuple[str, ...], ...] = ()
    named: str = ""
    kaggle: str = ""
    drive: str = ""

    @property
    def title(self) -> str:
        """The paper's name and what is on the images."""
        return f"{self.paper}, {self.shows}"

    @property
    def categories(self) -> tuple[str, ...]:
        """Category names, in the order of the official code."""
        return tuple(self.counts)

    @property
    def metrics(self) -> str:
        """Which metrics exist: image metrics need both labels, pixel metrics need masks."""
        image, pixel = all(self.total), self.masks
        return "image and pixel" if image and pixel else "image only" if image else "pixel only"


_BROWSER = "Open {} in a browser and download {}."
_MVTEC_RAW = "CATEGORY/{train/good,test/DEFECT,ground_truth/DEFECT}, masks STEM_mask.png"
_POLYP_ZIP = Archive("Polyp DataSet.zip")
_POLYP_PAGE = "figshare.com/articles/figure/Polyp_DataSet_zip/21221579"

_ENTRIES = (
    Dataset(
        name="mvtec",
        paper="MVTec AD",
        shows="objects and textures",
        loader="mvtecad",
        domain="industrial",
        source="mvtec.com/company/research/datasets/mvtec-ad",
        terms="CC BY-NC-SA 4.0: non-commercial, attribution, share alike",
        citation="Bergmann et al., CVPR 2019",
        by_hand=_BROWSER.format("mvtec.com/company/research/datasets/mvtec-ad", "the whole dataset (a form)"),
        raw=_MVTEC_RAW,
        archives=(
            Archive(
                "mvtec_anomaly_detection.tar.xz",
                "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
                "https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/download/"
                "420938113-1629960298/mvtec_anomaly_detection.tar.xz",
            ),
        ),
        layout=layouts.mvtec_like,
        counts={
            "carpet": (28, 89),
            "grid": (21, 57),
            "leather": (32, 92),
            "tile": (33, 84),
            "wood": (19, 60),
            "bottle": (20, 63),
            "capsule": (23, 109),
            "pill": (26, 141),
            "transistor": (60, 40),
            "zipper": (32, 119),
            "cable": (58, 92),
            "hazelnut": (40, 70),
            "metal_nut": (22, 93),
            "screw": (41, 119),
            "toothbrush": (12, 30),
        },
        total=(467, 1258),
        train=3629,
    ),
    Dataset(
        name="visa",
        paper="VisA",
        shows="objects",
        loader="visa",
        domain="industrial",
        source="github.com/amazon-science/spot-diff",
        terms="CC BY 4.0: attribution",
        citation="Zou et al., ECCV 2022",
        by_hand=_BROWSER.format("github.com/amazon-science/spot-diff", "VisA_20220922.tar"),
        raw="split_csv/1cls.csv and OBJECT/Data/{Images/{Normal,Anomaly},Masks/Anomaly}",
        archives=(
            Archive(
                "VisA_20220922.tar",
                "2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
                "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
            ),
        ),
        signs=(("split_csv/1cls.csv",),),
        layout=layouts.visa,
        counts={
            "candle": (100, 100),
            "capsules": (60, 100),
            "cashew": (50, 100),
            "chewinggum": (50, 100),
            "fryum": (50, 100),
            "macaroni1": (100, 100),
            "macaroni2": (100, 100),
            "pcb1": (100, 100),
            "pcb2": (100, 100),
            "pcb3": (101, 100),
            "pcb4": (101, 100),
            "pipe_fryum": (50, 100),
        },
        total=(962, 1200),
        train=8659,
        protocol="the one-class split of split_csv/1cls.csv",
        notes="Masks hold class numbers (1, 2, ...), so every pixel above 0 is anomalous.",
    ),
    Dataset(
        name="mpdd",
        paper="MPDD",
        shows="metal parts",
        loader="mpdd",
        domain="industrial",
        source="github.com/stepanje/MPDD",
        terms="CC BY-NC-SA 4.0 as stated by anomalib; the authors' page states none",
        citation="Jezek et al., ICUMT 2021",
        by_hand=_BROWSER.format(
            "github.com/stepanje/MPDD", "the dataset from its SharePoint link (no login)"
        ),
        raw=_MVTEC_RAW,
        layout=layouts.mvtec_like,
        counts={
            "bracket_black": (32, 47),
            "bracket_brown": (26, 51),
            "bracket_white": (30, 30),
            "connector": (30, 14),
            "metal_plate": (26, 71),
            "tubes": (32, 69),
        },
        total=(176, 282),
        train=None,
    ),
    Dataset(
        name="btad",
        paper="BTAD",
        shows="beanTech products",
        loader="btad",
        domain="industrial",
        source="avires.dimi.uniud.it/papers/btad",
        terms="licence unclear (CC BY-NC-SA 4.0 as stated by anomalib): non-commercial, do not pass on",
        citation="Mishra et al., ISIE 2021",
        by_hand=_BROWSER.format("avires.dimi.uniud.it/papers/btad/btad.zip", "btad.zip"),
        raw="{01,02,03}/{train/ok,test/ok,test/ko,ground_truth/ko}, .bmp and .png mixed, masks STEM.*",
        archives=(
            Archive(
                "btad.zip",
                "461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
                "http://avires.dimi.uniud.it/papers/btad/btad.zip",
            ),
        ),
        layout=layouts.mvtec_like,
        counts={"01": (21, 49), "02": (30, 200), "03": (400, 41)},
        total=(451, 290),
        train=1799,
    ),
    Dataset(
        name="sdd",
        paper="SDD",
        shows="electrical commutators (KolektorSDD)",
        loader="SDD",
        domain="industrial",
        source="vicos.si/resources/kolektorsdd",
        terms="CC BY-NC-SA 4.0: non-commercial, attribution, share alike",
        citation="Tabernik et al., Journal of Intelligent Manufacturing 2020",
        by_hand=_BROWSER.format("vicos.si/resources/kolektorsdd", "KolektorSDD.zip (fine annotations)"),
        raw="kosNN/PartN.jpg and PartN_label.bmp",
        archives=(
            Archive(
                "KolektorSDD.zip",
                "65dc621693418585de9c4467d1340ea7958a6181816f0dc2883a1e8b61f9d4dc",
                "https://data.vicos.si/datasets/KSDD/KolektorSDD.zip",
            ),
        ),
        signs=(("kos[0-9]*/Part[0-9].jpg",),),
        cut=cuts.sdd,
        counts={"SDD": (286, 54)},
        total=(286, 54),
        train=857,
        protocol="FAPrompt's: each image in three thirds, a quarter of the normal thirds tested",
        notes="AnomalyCLIP reports on another set, 181 normal and 74 anomalous, whose recipe is not "
        "published: it cannot be made from the public files, and its figures must not be compared "
        "with these. Which normal thirds are tested depends on the file system in the official converter; "
        "here it does not. The counts are equal.",
    ),
    Dataset(
        name="aitex",
        paper="AITEX",
        shows="fabrics",
        loader="AITEX",
        domain="industrial",
        source="aitex.es/afid",
        terms="public for research, no licence found: cite the paper, do not pass on",
        citation="Silvestre-Blanes et al., AUTEX Research Journal 2019",
        by_hand=_BROWSER.format(
            "aitex.es/afid", "Defect_images.7z, Mask_images.7z and NODefect_images.7z into one folder"
        ),
        raw="NODefect_images/FABRIC/*.png, Defect_images/NNNN_DDD_FF.png, Mask_images/NNNN_DDD_FF_mask.png",
        archives=tuple(Archive(f"{name}_images.7z") for name in ("Defect", "Mask", "NODefect")),
        signs=(("NODefect_images", "Defect_images", "Mask_images"),),
        cut=cuts.aitex,
        counts={"AITEX": (564, 183)},
        total=(564, 183),
        train=1692,
        protocol="strips in squares of 256; of defective strips only anomalous squares; a quarter of the "
        "squares of normal strips tested",
        notes="Split masks (_mask1, _mask2) are united; 0100_025_08 has no mask and is left out. The "
        "expected counts come from papers on the same protocol and were not recomputed from the files.",
    ),
    Dataset(
        name="elpv",
        paper="ELPV",
        shows="solar cells",
        loader="elpv",
        domain="industrial",
        source="github.com/zae-bayern/elpv-dataset",
        terms="images CC BY-NC-SA 4.0: non-commercial, attribution, share alike",
        citation="Buerhop-Lutz et al. 2018; Deitsch et al. 2019, 2021",
        by_hand=_BROWSER.format("github.com/zae-bayern/elpv-dataset", "the repository as a zip"),
        raw="labels.csv (image, probability, type) and images/cellNNNN.png",
        archives=(
            Archive(
                "elpv-dataset.zip",
                address="https://github.com/zae-bayern/elpv-dataset/archive/refs/heads/master.zip",
            ),
        ),
        signs=(("labels.csv", "images/cell*.png"),),
        layout=layouts.elpv,
        counts={"elpv": (377, 715)},
        total=(377, 715),
        train=1131,
        masks=False,
        protocol="normal: probability 0, a quarter of them tested; anomalous: probability 1; others dropped",
    ),
    Dataset(
        name="dagm",
        paper="DAGM2007",
        shows="artificial textures",
        loader="DAGM",
        domain="industrial",
        source="kaggle.com/datasets/mhskjelvareid/dagm-2007-competition-dataset-optical-inspection (login)",
        terms="CDLA-Sharing-1.0 on Kaggle (not confirmed)",
        citation="Wieler and Hahn, DAGM symposium 2007",
        by_hand="Log in to Kaggle, download mhskjelvareid/dagm-2007-competition-dataset-optical-inspection.",
        raw="ClassN/{Train,Test}/NNNN.PNG and Label/{Labels.txt,NNNN_label.PNG}",
        kaggle="mhskjelvareid/dagm-2007-competition-dataset-optical-inspection",
        layout=layouts.dagm,
        counts={
            "Class1": (504, 71),
            "Class2": (491, 84),
            "Class3": (491, 84),
            "Class4": (507, 68),
            "Class5": (495, 80),
            "Class6": (508, 67),
            "Class7": (1000, 150),
            "Class8": (1000, 150),
            "Class9": (1000, 150),
            "Class10": (1000, 150),
        },
        total=(6996, 1054),
        train=8050,
        protocol="the published Test folders",
        notes="Masks are coarse ellipses. AdaCLIP's balanced set and Bayes-PFL's re-annotated one are other "
        "protocols.",
    ),
    Dataset(
        name="dtd",
        paper="DTD-Synthetic",
        shows="textures",
        loader="DTD",
        domain="industrial",
        source="Google Drive folder 10OyPzvI3H6llCZBxKxFlKWt1Pw1tkMK1",
        terms="no licence stated, derived from DTD (research): do not pass on",
        citation="Aota et al., WACV 2023",
        by_hand="Open Google Drive folder 10OyPzvI3H6llCZBxKxFlKWt1Pw1tkMK1 in a browser and download it.",
        raw="NAME/{train/good,test/good,test/bad,ground_truth/bad}, masks STEM_mask.png",
        drive="folder/10OyPzvI3H6llCZBxKxFlKWt1Pw1tkMK1",
        layout=layouts.mvtec_like,
        counts=dict.fromkeys(
            (
                "Woven_001",
                "Woven_127",
                "Woven_104",
                "Stratified_154",
                "Blotchy_099",
                "Woven_068",
                "Woven_125",
                "Marbled_078",
                "Perforated_037",
                "Mesh_114",
                "Fibrous_183",
                "Matted_069",
            )
        ),
        total=(357, 947),
        train=1200,
        notes="No source states the counts per category, only their sum.",
    ),
    Dataset(
        name="headct",
        paper="HeadCT",
        shows="haemorrhage",
        loader="headct2",
        domain="medical",
        source="kaggle.com/datasets/felipekitamura/head-ct-hemorrhage (login)",
        terms="CC0 on Kaggle (not confirmed)",
        citation="Kitamura, Head CT - hemorrhage, Kaggle 2018",
        by_hand="Log in to Kaggle, download felipekitamura/head-ct-hemorrhage.",
        raw="labels.csv (id, hemorrhage) and head_ct/head_ct/NNN.png",
        kaggle="felipekitamura/head-ct-hemorrhage",
        signs=(("labels.csv", "head_ct"),),
        layout=layouts.headct,
        counts={"headct2": (100, 100)},
        total=(100, 100),
        masks=False,
        protocol="all images",
        notes="FAPrompt's split is not published; its figures fit all images. DRA and InCTRL test 25 normal "
        "ones.",
    ),
    Dataset(
        name="brainmri",
        paper="BrainMRI",
        shows="tumours",
        loader="brainmri2",
        domain="medical",
        source="kaggle.com/datasets/navoneel/brain-mri-images-for-brain-tumor-detection (login)",
        terms="licence not stated: research only, do not pass on",
        citation="Chakrabarty, Brain MRI Images for Brain Tumor Detection, Kaggle 2019",
        by_hand="Log in to Kaggle, download navoneel/brain-mri-images-for-brain-tumor-detection.",
        raw="brain_tumor_dataset/{no,yes}, names with spaces, PNG data behind some .jpg names",
        kaggle="navoneel/brain-mri-images-for-brain-tumor-detection",
        signs=(("no", "yes/Y[0-9]*"),),
        layout=layouts.no_and_yes,
        counts={"brainmri2": (98, 155)},
        total=(98, 155),
        masks=False,
        protocol="all images",
        notes="FAPrompt's split is not published; its figures fit all images. DRA and InCTRL test 25 normal "
        "ones. 22 images are there more than once.",
    ),
    Dataset(
        name="br35h",
        paper="Br35H",
        shows="brain tumours",
        loader="br35",
        domain="medical",
        source="kaggle.com/datasets/ahmedhamada0/brain-tumor-detection (login)",
        terms="licence not confirmed: research only, do not pass on",
        citation="Hamada, Br35H :: Brain Tumor Detection 2020, Kaggle",
        by_hand="Log in to Kaggle, download ahmedhamada0/brain-tumor-detection.",
        raw="no/noN.jpg and yes/yN.jpg; pred/ and Br35H-Mask-RCNN/ are not used",
        kaggle="ahmedhamada0/brain-tumor-detection",
        signs=(("no/no[0-9]*", "yes/y[0-9]*"),),
        layout=layouts.no_and_yes,
        counts={"br35": (1500, 1500)},
        total=(1500, 1500),
        masks=False,
        protocol="all labelled images",
    ),
    Dataset(
        name="lag",
        paper="LAG",
        shows="glaucoma",
        loader="LAG",
        domain="medical",
        source="github.com/smilell/AG-CNN (password by mail)",
        terms="academic use only; uploading it anywhere again is forbidden",
        citation="Li et al., CVPR 2019",
        by_hand="Follow github.com/smilell/AG-CNN: ask its authors for the password by mail, download "
        "LAG_database_part_1.rar and unpack it with unrar or 7-Zip.",
        raw="{non_glaucoma,suspicious_glaucoma}/{image,attention_map,label}",
        archives=(Archive("LAG_database_part_1.rar"),),
        signs=(("non_glaucoma/image", "suspicious_glaucoma/image"),),
        layout=layouts.lag,
        counts={"LAG": (786, 1711)},
        total=(786, 1711),
        train=2357,
        masks=False,
        protocol="all anomalous images, a quarter of the normal ones",
        notes="Attention maps are no masks. The expected counts come from papers and were not recomputed "
        "from the files.",
    ),
    Dataset(
        name="colondb",
        paper="CVC-ColonDB",
        shows="polyps",
        loader="colon",
        domain="medical",
        source=_POLYP_PAGE,
        terms="research use only",
        citation="Bernal et al., Pattern Recognition 2012; Tajbakhsh et al., TMI 2015",
        by_hand=_BROWSER.format(_POLYP_PAGE, "the zip"),
        raw="CVC-ColonDB/{images,masks}/N.png",
        archives=(_POLYP_ZIP,),
        signs=(("images/[0-9]*", "masks/[0-9]*"),),
        named="colondb",
        layout=layouts.polyps,
        counts={"colon": (0, 380)},
        total=(0, 380),
        protocol="all images",
    ),
    Dataset(
        name="clinicdb",
        paper="CVC-ClinicDB",
        shows="polyps",
        loader="colon",
        domain="medical",
        source=_POLYP_PAGE,
        terms="research and education only, no commercial use, do not pass on",
        citation="Bernal et al., Computerized Medical Imaging and Graphics 2015",
        by_hand=_BROWSER.format(_POLYP_PAGE, "the zip")
        + " The original (polyp.grand-challenge.org/CVCClinicDB, a .rar for unrar or 7-Zip) also does.",
        raw="CVC-ClinicDB/{images,masks}/N.png, or {Original,Ground Truth}/N.tif",
        archives=(_POLYP_ZIP,),
        signs=(("images/[0-9]*", "masks/[0-9]*"), ("Original/[0-9]*", "Ground Truth/[0-9]*")),
        named="clinicdb",
        layout=layouts.polyps,
        counts={"colon": (0, 612)},
        total=(0, 612),
        protocol="all images",
    ),
    Dataset(
        name="kvasir",
        paper="Kvasir",
        shows="polyps (Kvasir-SEG)",
        loader="colon",
        domain="medical",
        source="datasets.simula.no/kvasir-seg",
        terms="research and education only, cite the paper",
        citation="Jha et al., MMM 2020",
        by_hand=_BROWSER.format("datasets.simula.no/kvasir-seg", "kvasir-seg.zip"),
        raw="Kvasir-SEG/{images,masks}/cju*.jpg",
        archives=(Archive("kvasir-seg.zip", address="https://datasets.simula.no/downloads/kvasir-seg.zip"),),
        signs=(("images/cju*", "masks"),),
        layout=layouts.polyps,
        counts={"colon": (0, 1000)},
        total=(0, 1000),
        # Stored as JPEG: above 0 would take compression noise for anomaly (ledger: mask-rule).
        mask_rule="half",
        protocol="all images",
        notes="Masks are JPEG files: read above half, not above 0 as the papers' code does.",
    ),
    Dataset(
        name="endo",
        paper="Endo",
        shows="polyps (EndoTect 2020)",
        loader="colon",
        domain="medical",
        source="Google Drive file 1LNpLkv5ZlEUzr_RPN5rdOHaqk0SkZa3m",
        terms="CC BY 4.0 as HyperKvasir (not confirmed)",
        citation="Hicks et al., EndoTect challenge, ICPR 2020",
        by_hand="Open Google Drive file 1LNpLkv5ZlEUzr_RPN5rdOHaqk0SkZa3m in a browser and download it.",
        raw="EndoTect_2020_Segmentation_Test_Dataset/{images/UUID.jpg,masks/UUID.png}",
        archives=(Archive("EndoTect_2020_Segmentation_Test_Dataset.zip"),),
        drive="file/1LNpLkv5ZlEUzr_RPN5rdOHaqk0SkZa3m",
        signs=(("images/????????-????-*", "masks"),),
        layout=layouts.polyps,
        counts={"colon": (0, 200)},
        total=(0, 200),
        protocol="all images of the segmentation test set",
    ),
    Dataset(
        name="isic",
        paper="ISIC",
        shows="skin lesions (2016, task 1)",
        loader="ISBI",
        domain="medical",
        source="challenge.isic-archive.com/data/#2016",
        terms="CC0",
        citation="Gutman et al., arXiv 1605.01397, 2016",
        by_hand=_BROWSER.format(
            "challenge.isic-archive.com/data/#2016", "task 1, test data and ground truth"
        ),
        raw="ISBI2016_ISIC_Part1_Test_{Data/STEM.jpg,GroundTruth/STEM_Segmentation.png}",
        archives=tuple(
            Archive(name, address=f"https://isic-challenge-data.s3.amazonaws.com/2016/{name}")
            for name in ("ISBI2016_ISIC_Part1_Test_Data.zip", "ISBI2016_ISIC_Part1_Test_GroundTruth.zip")
        ),
        signs=(
            ("ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth"),
            ("test/ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth"),
        ),
        layout=layouts.isic,
        counts={"skin": (0, 379)},
        total=(0, 379),
    ),
    Dataset(
        name="tn3k",
        paper="TN3K",
        shows="thyroid nodules",
        loader="thyroid",
        domain="medical",
        source="github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation",
        terms="research, no licence for the data: do not pass on",
        citation="Gong et al., ISBI 2021",
        by_hand="Follow the link to Google Drive or Baidu (code 49o8) on "
        "github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation.",
        raw="tn3k/{test-image,test-mask}/NNNN.jpg",
        signs=(("test-image", "test-mask"),),
        layout=layouts.tn3k,
        counts={"thyroid": (0, 614)},
        total=(0, 614),
        mask_rule="half",
        notes="Masks are JPEG files: read above half, not above 0 as the papers' code does.",
    ),
)

DATASETS = {entry.name: entry for entry in _ENTRIES}


def find(name: str) -> Dataset:
    """The entry of a dataset, by its name here, in the paper or in the official code, in any case.

    Raises:
        KitError: unknown name, or one that several datasets share; the message has the nearest known one.
    """
    low = name.lower()
    if low in DATASETS:
        return DATASETS[low]
    others = [entry for entry in _ENTRIES if low in (entry.paper.lower(), entry.loader.lower())]
    if len(others) == 1:
        return others[0]
    near = nearest(low, DATASETS)
    known = ", ".join(DATASETS)
    raise KitError(f"unknown dataset {name!r}; the nearest known one is {near!r} (known: {known}).")
