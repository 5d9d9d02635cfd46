"""The operations that a served graph may have.

Pure computations on tensors, and what any SavedModel needs to hold and restore its variables. No
Python, no files, no network, no state that outlives a request, nothing compiled on the fly. All of
them are in TensorFlow Serving 2.21. A network that needs another pure one: add it here.
"""

ARITHMETIC = """
    Abs Add AddN AddV2 Ceil ClipByValue Cos DivNoNan Elu Erf Exp Expm1 Floor FloorDiv FloorMod
    LeakyRelu Log Log1p LogSoftmax Maximum Minimum Mul MulNoNan Neg Pow RealDiv Reciprocal Relu
    Relu6 Round Rsqrt Selu Sigmoid Sign Sin Softmax Softplus Softsign Sqrt Square
    SquaredDifference Sub Tanh TruncateDiv Xdivy
"""
COMPARISON = """
    All Any ArgMax ArgMin Equal Greater GreaterEqual IsFinite IsInf IsNan Less LessEqual
    LogicalAnd LogicalNot LogicalOr NotEqual Select SelectV2
"""
LINEAR = """
    AvgPool BatchMatMulV2 BatchMatMulV3 BiasAdd Conv2D DepthwiseConv2dNative Einsum
    FusedBatchNormV3 MatMul MaxPool Max Mean Min Prod Sum TopKV2
"""
SHAPE = """
    BroadcastArgs BroadcastTo Cast Concat ConcatV2 EnsureShape ExpandDims Fill GatherNd GatherV2
    Identity IdentityN OneHot OnesLike Pack Pad PadV2 PreventGradient Range Rank Reshape ReverseV2
    Shape Size Slice Split SplitV Squeeze StopGradient StridedSlice Tile Transpose Unpack
    ZerosLike
"""
STRINGS = """
    AsString DecodePng ParseExampleV2 StaticRegexFullMatch StringJoin StringLength Substr
"""
CONTROL = """
    Assert Const If NoOp PartitionedCall Placeholder StatefulPartitionedCall StatelessIf
    StatelessWhile TensorListFromTensor TensorListGetItem TensorListReserve TensorListSetItem
    TensorListStack While
"""
VARIABLES = "ReadVariableOp VarHandleOp"
_RESTORE = "AssignVariableOp DisableCopyOnRead RestoreV2 ShardedFilename"
_SAVE = "MergeV2Checkpoints SaveV2"

ALLOWED = frozenset(
    " ".join((ARITHMETIC, COMPARISON, LINEAR, SHAPE, STRINGS, CONTROL, VARIABLES)).split()
)
"""What a request may run."""

WRITER = frozenset(_SAVE.split())
"""What only saving may run, which no server does: it writes files."""

SAVER = WRITER | frozenset(_RESTORE.split())
"""What only saving and restoring variables may run: it writes and reads files."""

PYTHON = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
"""For their own words: these call into a Python process that a server has not."""
