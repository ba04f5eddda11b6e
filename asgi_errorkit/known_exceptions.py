"""What is known of other people's exceptions, by name alone: nothing here is imported to be judged.

A name is ``module.QualifiedName`` as the class itself says it, which is often not the path it is
imported from; where a library moved a class, its former names stand beside the present one. An
entry speaks for every subclass that has none of its own.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from asgi_errorkit.errors import ErrorType

__all__ = ["ERRNOS", "GRPC_CODES", "HTTP_EXCEPTIONS", "STATUSES", "TYPES", "WORDS"]

_AUTHENTICATION: Final = ErrorType.AUTHENTICATION
_AUTHORIZATION: Final = ErrorType.AUTHORIZATION
_CACHE: Final = ErrorType.CACHE
_DATABASE: Final = ErrorType.DATABASE
_EXTERNAL: Final = ErrorType.EXTERNAL_SERVICE
_MEMORY: Final = ErrorType.MEMORY
_MODEL: Final = ErrorType.MODEL
_NOT_FOUND: Final = ErrorType.NOT_FOUND
_RATE_LIMIT: Final = ErrorType.RATE_LIMIT
_SYSTEM: Final = ErrorType.SYSTEM
_TIMEOUT: Final = ErrorType.TIMEOUT
_UNKNOWN: Final = ErrorType.UNKNOWN
_VALIDATION: Final = ErrorType.VALIDATION

# Three rules run through the table.
# 1. A driver's timeout belongs to its dependency where a type names the dependency (DATABASE,
#    CACHE): the fallback and the breaker to use are the dependency's. Every other client's timeout
#    is TIMEOUT.
# 2. A row or document that is not there is NOT_FOUND, not a fault of the database.
# 3. A programming mistake, data in a broken format and a client that left are UNKNOWN: their class
#    says all there is, so their words are never searched.
TYPES: Final[Mapping[str, ErrorType]] = MappingProxyType(
    {
        # Python: mistakes in the program
        "builtins.ArithmeticError": _UNKNOWN,
        "builtins.AssertionError": _UNKNOWN,
        "builtins.AttributeError": _UNKNOWN,
        "builtins.BufferError": _UNKNOWN,
        "builtins.EOFError": _UNKNOWN,
        "builtins.IndexError": _UNKNOWN,
        "builtins.KeyError": _UNKNOWN,
        "builtins.NameError": _UNKNOWN,
        "builtins.NotImplementedError": _UNKNOWN,
        "builtins.RecursionError": _UNKNOWN,
        "builtins.ReferenceError": _UNKNOWN,
        "builtins.StopAsyncIteration": _UNKNOWN,
        "builtins.StopIteration": _UNKNOWN,
        "builtins.SyntaxError": _UNKNOWN,
        "builtins.TypeError": _UNKNOWN,
        "builtins.UnicodeError": _UNKNOWN,
        "builtins.Warning": _UNKNOWN,
        "copy.Error": _UNKNOWN,
        "ctypes.ArgumentError": _UNKNOWN,
        "asyncio.exceptions.InvalidStateError": _UNKNOWN,
        "asyncio.queues.QueueEmpty": _UNKNOWN,
        "concurrent.futures._base.InvalidStateError": _UNKNOWN,
        "_queue.Empty": _UNKNOWN,
        # Python: the end of a task or of the process, judged elsewhere
        "builtins.GeneratorExit": _UNKNOWN,
        "builtins.KeyboardInterrupt": _UNKNOWN,
        "builtins.SystemExit": _UNKNOWN,
        "asyncio.exceptions.CancelledError": _UNKNOWN,
        "concurrent.futures._base.CancelledError": _UNKNOWN,
        # Python: data in a broken format, whoever wrote it
        "_csv.Error": _UNKNOWN,
        "_lzma.LZMAError": _UNKNOWN,
        "_pickle.PickleError": _UNKNOWN,
        "binascii.Error": _UNKNOWN,
        "email.errors.MessageError": _UNKNOWN,
        "gzip.BadGzipFile": _UNKNOWN,
        "ipaddress.AddressValueError": _UNKNOWN,
        "json.decoder.JSONDecodeError": _UNKNOWN,
        "plistlib.InvalidFileException": _UNKNOWN,
        "re.PatternError": _UNKNOWN,
        "re.error": _UNKNOWN,  # its name before 3.13
        "statistics.StatisticsError": _UNKNOWN,
        "struct.error": _UNKNOWN,
        "tarfile.TarError": _UNKNOWN,
        "tomllib.TOMLDecodeError": _UNKNOWN,
        "wave.Error": _UNKNOWN,
        "xml.parsers.expat.ExpatError": _UNKNOWN,
        "xml.sax._exceptions.SAXException": _UNKNOWN,
        "zipfile.BadZipFile": _UNKNOWN,
        "zlib.error": _UNKNOWN,
        # Python: the process and its machine (every other OSError goes by its errno)
        "builtins.ImportError": _SYSTEM,
        "builtins.MemoryError": _MEMORY,
        "builtins.SystemError": _SYSTEM,
        "asyncio.queues.QueueFull": _SYSTEM,
        "concurrent.futures._base.BrokenExecutor": _SYSTEM,
        "configparser.Error": _SYSTEM,
        "multiprocessing.context.ProcessError": _SYSTEM,
        "queue.Full": _SYSTEM,
        "subprocess.SubprocessError": _SYSTEM,
        # Python: time and the network
        "builtins.ConnectionError": _EXTERNAL,
        "builtins.TimeoutError": _TIMEOUT,
        "asyncio.exceptions.IncompleteReadError": _EXTERNAL,
        "asyncio.exceptions.LimitOverrunError": _EXTERNAL,
        "ftplib.Error": _EXTERNAL,
        "http.client.HTTPException": _EXTERNAL,
        "http.client.InvalidURL": _UNKNOWN,
        "imaplib.IMAP4.error": _EXTERNAL,
        "multiprocessing.context.TimeoutError": _TIMEOUT,
        "poplib.error_proto": _EXTERNAL,
        "smtplib.SMTPException": _EXTERNAL,
        "socket.gaierror": _EXTERNAL,
        "socket.herror": _EXTERNAL,
        "ssl.SSLError": _EXTERNAL,
        "subprocess.TimeoutExpired": _TIMEOUT,
        "urllib.error.URLError": _EXTERNAL,  # its reason is asked first
        "xmlrpc.client.Error": _EXTERNAL,
        # anyio (whose classes take their public name when it is first used), trio
        "anyio.BrokenResourceError": _EXTERNAL,
        "anyio._core._exceptions.BrokenResourceError": _EXTERNAL,
        "anyio.BrokenWorkerInterpreter": _SYSTEM,
        "anyio._core._exceptions.BrokenWorkerInterpreter": _SYSTEM,
        "anyio.BrokenWorkerProcess": _SYSTEM,
        "anyio._core._exceptions.BrokenWorkerProcess": _SYSTEM,
        "anyio.BusyResourceError": _UNKNOWN,
        "anyio._core._exceptions.BusyResourceError": _UNKNOWN,
        "anyio.ClosedResourceError": _UNKNOWN,
        "anyio._core._exceptions.ClosedResourceError": _UNKNOWN,
        "anyio.ConnectionFailed": _EXTERNAL,
        "anyio._core._exceptions.ConnectionFailed": _EXTERNAL,
        "anyio.EndOfStream": _EXTERNAL,
        "anyio._core._exceptions.EndOfStream": _EXTERNAL,
        "anyio.IncompleteRead": _EXTERNAL,
        "anyio._core._exceptions.IncompleteRead": _EXTERNAL,
        "anyio.WouldBlock": _UNKNOWN,
        "anyio._core._exceptions.WouldBlock": _UNKNOWN,
        "trio.BrokenResourceError": _EXTERNAL,
        "trio.BusyResourceError": _UNKNOWN,
        "trio.Cancelled": _UNKNOWN,
        "trio.ClosedResourceError": _UNKNOWN,
        "trio.EndOfChannel": _EXTERNAL,
        "trio.TooSlowError": _TIMEOUT,
        "trio.TrioInternalError": _SYSTEM,
        "trio.WouldBlock": _UNKNOWN,
        # HTTP clients: a status in these is the upstream's, never our client's; a URL that cannot be
        # one is no fault of any upstream
        "aiohttp.client_exceptions.ClientError": _EXTERNAL,
        "aiohttp.client_exceptions.InvalidURL": _UNKNOWN,
        "aiohttp.client_exceptions.ServerTimeoutError": _TIMEOUT,
        "aiohttp.http_exceptions.HttpProcessingError": _EXTERNAL,
        "curl_cffi.curl.CurlError": _EXTERNAL,
        "h11._util.LocalProtocolError": _UNKNOWN,
        "h11._util.RemoteProtocolError": _EXTERNAL,
        "h2.exceptions.H2Error": _EXTERNAL,
        "httpcore.NetworkError": _EXTERNAL,
        "httpcore.ProtocolError": _EXTERNAL,
        "httpcore.ProxyError": _EXTERNAL,
        "httpcore.TimeoutException": _TIMEOUT,
        "httpcore2.NetworkError": _EXTERNAL,
        "httpcore2.ProtocolError": _EXTERNAL,
        "httpcore2.ProxyError": _EXTERNAL,
        "httpcore2.TimeoutException": _TIMEOUT,
        "httpx.HTTPError": _EXTERNAL,
        "httpx.InvalidURL": _UNKNOWN,
        "httpx.StreamError": _UNKNOWN,
        "httpx.TimeoutException": _TIMEOUT,
        "httpx.UnsupportedProtocol": _UNKNOWN,
        "httpx._exceptions.HTTPError": _EXTERNAL,  # former names
        "httpx._exceptions.TimeoutException": _TIMEOUT,
        "httpx2.HTTPError": _EXTERNAL,
        "httpx2.InvalidURL": _UNKNOWN,
        "httpx2.StreamError": _UNKNOWN,
        "httpx2.TimeoutException": _TIMEOUT,
        "httpx2.UnsupportedProtocol": _UNKNOWN,
        "pycurl.error": _EXTERNAL,
        "requests.exceptions.ConnectTimeout": _TIMEOUT,
        "requests.exceptions.InvalidSchema": _UNKNOWN,
        "requests.exceptions.InvalidURL": _UNKNOWN,
        "requests.exceptions.MissingSchema": _UNKNOWN,
        "requests.exceptions.RequestException": _EXTERNAL,
        "requests.exceptions.Timeout": _TIMEOUT,
        "tornado.httpclient.HTTPClientError": _EXTERNAL,
        "tornado.iostream.StreamClosedError": _EXTERNAL,
        "tornado.simple_httpclient.HTTPTimeoutError": _TIMEOUT,
        "tornado.util.TimeoutError": _TIMEOUT,
        "urllib3.exceptions.HTTPError": _EXTERNAL,
        "urllib3.exceptions.LocationValueError": _UNKNOWN,
        "urllib3.exceptions.MaxRetryError": _EXTERNAL,  # its reason is asked first
        "urllib3.exceptions.NewConnectionError": _EXTERNAL,  # a ConnectTimeoutError by descent only
        "urllib3.exceptions.TimeoutError": _TIMEOUT,
        "websockets.exceptions.InvalidURI": _UNKNOWN,
        "websockets.exceptions.WebSocketException": _EXTERNAL,
        "wsproto.utilities.RemoteProtocolError": _EXTERNAL,
        # Databases
        "MySQLdb._exceptions.MySQLError": _DATABASE,
        "_duckdb.Error": _DATABASE,
        "_mysql_exceptions.MySQLError": _DATABASE,  # former name
        "asyncmy.errors.MySQLError": _DATABASE,
        "asyncpg.exceptions._base.InterfaceError": _DATABASE,
        "asyncpg.exceptions._base.InternalClientError": _DATABASE,
        "asyncpg.exceptions._base.PostgresError": _DATABASE,
        "bson.errors.BSONError": _DATABASE,
        "bson.errors.InvalidId": _VALIDATION,
        "cassandra.DriverException": _DATABASE,
        "cassandra.cluster.NoHostAvailable": _DATABASE,
        "cassandra.connection.ConnectionBusy": _DATABASE,
        "cassandra.connection.ConnectionException": _DATABASE,
        "cassandra.pool.NoConnectionsAvailable": _DATABASE,
        "cassandra.protocol.ErrorMessage": _DATABASE,
        "clickhouse_connect.driver.exceptions.ClickHouseError": _DATABASE,
        "clickhouse_driver.errors.Error": _DATABASE,
        "cx_Oracle.Error": _DATABASE,
        "duckdb.duckdb.Error": _DATABASE,  # former name
        "elastic_transport.ApiError": _DATABASE,
        "elastic_transport.TransportError": _DATABASE,
        "elasticsearch.NotFoundError": _NOT_FOUND,
        "elasticsearch.exceptions.ElasticsearchException": _DATABASE,  # before 8
        "elasticsearch.exceptions.NotFoundError": _NOT_FOUND,
        "mysql.connector.errors.Error": _DATABASE,
        "neo4j.exceptions.DriverError": _DATABASE,
        "neo4j.exceptions.Neo4jError": _DATABASE,
        "opensearchpy.exceptions.NotFoundError": _NOT_FOUND,
        "opensearchpy.exceptions.OpenSearchException": _DATABASE,
        "oracledb.exceptions.Error": _DATABASE,
        "psycopg.Error": _DATABASE,
        "psycopg2.Error": _DATABASE,
        "pymongo.errors.PyMongoError": _DATABASE,
        "pymysql.err.MySQLError": _DATABASE,
        "pyodbc.Error": _DATABASE,
        "qdrant_client.http.exceptions.ApiException": _DATABASE,
        "snowflake.connector.errors.Error": _DATABASE,
        "sqlite3.Error": _DATABASE,
        # Mappers
        "django.core.exceptions.ObjectDoesNotExist": _NOT_FOUND,
        "django.db.utils.Error": _DATABASE,
        "mongoengine.errors.DoesNotExist": _NOT_FOUND,
        "mongoengine.errors.MongoEngineException": _DATABASE,
        "peewee.DoesNotExist": _NOT_FOUND,
        "peewee.PeeweeException": _DATABASE,
        "pony.orm.core.ObjectNotFound": _NOT_FOUND,
        "pony.orm.core.OrmError": _DATABASE,
        "sqlalchemy.exc.NoResultFound": _NOT_FOUND,
        "sqlalchemy.exc.SQLAlchemyError": _DATABASE,
        "sqlalchemy.orm.exc.NoResultFound": _NOT_FOUND,  # SQLAlchemy before 1.4
        "tortoise.exceptions.BaseORMException": _DATABASE,
        "tortoise.exceptions.DoesNotExist": _NOT_FOUND,
        "tortoise.exceptions.ValidationError": _VALIDATION,
        # Caches
        "aiomcache.exceptions.ClientException": _CACHE,
        "aioredis.errors.RedisError": _CACHE,  # aioredis before 2
        "aioredis.exceptions.RedisError": _CACHE,
        "coredis.exceptions.RedisError": _CACHE,
        "limits.errors.StorageError": _CACHE,
        "pymemcache.exceptions.MemcacheError": _CACHE,
        "redis.exceptions.RedisClusterException": _CACHE,
        "redis.exceptions.RedisError": _CACHE,
        "valkey.exceptions.ValkeyClusterException": _CACHE,
        "valkey.exceptions.ValkeyError": _CACHE,
        # Brokers and task queues
        "aiokafka.errors.KafkaError": _EXTERNAL,
        "aiokafka.errors.KafkaTimeoutError": _TIMEOUT,
        "aiokafka.errors.RequestTimedOutError": _TIMEOUT,
        "aiormq.exceptions.AMQPError": _EXTERNAL,
        "aiormq.exceptions.ChannelInvalidStateError": _EXTERNAL,
        "amqp.exceptions.AMQPError": _EXTERNAL,
        "billiard.exceptions.SoftTimeLimitExceeded": _TIMEOUT,
        "billiard.exceptions.TimeLimitExceeded": _TIMEOUT,
        "billiard.exceptions.WorkerLostError": _SYSTEM,
        "celery.exceptions.BackendError": _EXTERNAL,
        "celery.exceptions.CeleryError": _EXTERNAL,
        "celery.exceptions.ImproperlyConfigured": _SYSTEM,
        "celery.exceptions.TimeoutError": _TIMEOUT,
        "cimpl.KafkaException": _EXTERNAL,  # confluent-kafka
        "kafka.errors.KafkaError": _EXTERNAL,
        "kafka.errors.KafkaTimeoutError": _TIMEOUT,
        "kafka.errors.RequestTimedOutError": _TIMEOUT,
        "kombu.exceptions.KombuError": _EXTERNAL,
        "nats.errors.Error": _EXTERNAL,
        "pika.exceptions.AMQPError": _EXTERNAL,
        # Validation of data against a schema
        "cattr.errors.BaseValidationError": _VALIDATION,  # former name
        "cattrs.errors.BaseValidationError": _VALIDATION,
        "cattrs.errors.ForbiddenExtraKeysError": _VALIDATION,
        "cattrs.errors.StructureHandlerNotFoundError": _UNKNOWN,
        "cerberus.schema.SchemaError": _UNKNOWN,
        "cerberus.validator.DocumentError": _VALIDATION,
        "connexion.exceptions.InvalidSpecification": _SYSTEM,
        "django.core.exceptions.ValidationError": _VALIDATION,
        "email_validator.exceptions.EmailNotValidError": _VALIDATION,
        "email_validator.exceptions_types.EmailNotValidError": _VALIDATION,  # former name
        "fastapi.exceptions.ResponseValidationError": _VALIDATION,
        "fastjsonschema.exceptions.JsonSchemaValueException": _VALIDATION,
        "jsonschema.exceptions.SchemaError": _UNKNOWN,
        "jsonschema.exceptions.ValidationError": _VALIDATION,
        "marshmallow.exceptions.ValidationError": _VALIDATION,
        "msgspec.DecodeError": _UNKNOWN,
        "msgspec.ValidationError": _VALIDATION,
        "multipart.MultipartError": _VALIDATION,
        "multipart.exceptions.FormParserError": _VALIDATION,  # former name
        "pydantic.error_wrappers.ValidationError": _VALIDATION,  # pydantic before 2
        "pydantic.errors.PydanticUserError": _UNKNOWN,
        "pydantic.v1.error_wrappers.ValidationError": _VALIDATION,
        "pydantic_core._pydantic_core.PydanticCustomError": _VALIDATION,
        "pydantic_core._pydantic_core.PydanticKnownError": _VALIDATION,
        "pydantic_core._pydantic_core.PydanticSerializationError": _UNKNOWN,
        "pydantic_core._pydantic_core.SchemaError": _UNKNOWN,
        "pydantic_core._pydantic_core.ValidationError": _VALIDATION,
        "pydantic_settings.exceptions.SettingsError": _SYSTEM,
        "pydantic_settings.sources.SettingsError": _SYSTEM,  # former name
        "python_multipart.exceptions.FormParserError": _VALIDATION,
        "schema.SchemaError": _VALIDATION,
        "starlette.formparsers.MultiPartException": _VALIDATION,
        "voluptuous.error.Invalid": _VALIDATION,
        "werkzeug.routing.converters.ValidationError": _VALIDATION,
        "yaml.error.YAMLError": _UNKNOWN,
        # AI runtimes: what runs in this machine is MODEL (MEMORY if it starved), a service is not
        "cupy.cuda.memory.OutOfMemoryError": _MEMORY,
        "cupy_backends.cuda.api.runtime.CUDARuntimeError": _MODEL,
        "jax.errors.JaxRuntimeError": _MODEL,
        "jaxlib._jax.XlaRuntimeError": _MODEL,
        "jaxlib.xla_extension.XlaRuntimeError": _MODEL,  # former name
        "onnxruntime.capi.onnxruntime_pybind11_state.EPFail": _MODEL,
        "onnxruntime.capi.onnxruntime_pybind11_state.EngineError": _MODEL,
        "onnxruntime.capi.onnxruntime_pybind11_state.DeviceReset": _MODEL,
        "onnxruntime.capi.onnxruntime_pybind11_state.Fail": _MODEL,
        "onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument": _MODEL,
        "onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph": _MODEL,
        "onnxruntime.capi.onnxruntime_pybind11_state.InvalidProtobuf": _MODEL,
        "onnxruntime.capi.onnxruntime_pybind11_state.ModelLoadCanceled": _MODEL,
        "onnxruntime.capi.onnxruntime_pybind11_state.ModelLoaded": _MODEL,
        "onnxruntime.capi.onnxruntime_pybind11_state.ModelRequiresCompilation": _MODEL,
        "onnxruntime.capi.onnxruntime_pybind11_state.NoModel": _MODEL,
        "onnxruntime.capi.onnxruntime_pybind11_state.NoSuchFile": _MODEL,
        "onnxruntime.capi.onnxruntime_pybind11_state.NotFound": _MODEL,
        "onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented": _MODEL,
        "onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException": _MODEL,
        "safetensors._safetensors_rust.SafetensorError": _MODEL,
        "safetensors_rust.SafetensorError": _MODEL,
        "tensorflow.python.framework.errors_impl.DeadlineExceededError": _TIMEOUT,
        "tensorflow.python.framework.errors_impl.OpError": _MODEL,
        "tensorflow.python.framework.errors_impl.ResourceExhaustedError": _MEMORY,
        "torch.AcceleratorError": _MODEL,
        "torch.FatalError": _MODEL,
        "torch.OutOfMemoryError": _MEMORY,
        "torch._C.AcceleratorError": _MODEL,
        "torch._C.OutOfMemoryError": _MEMORY,
        "torch._C._LinAlgError": _MODEL,
        "torch._C._OutOfMemoryError": _MEMORY,
        "torch._dynamo.exc.TorchDynamoException": _MODEL,
        "torch.cuda.CudaError": _MODEL,
        "torch.cuda.DeferredCudaCallError": _MODEL,
        "torch.cuda.OutOfMemoryError": _MEMORY,  # torch before 2.5
        "torch.distributed.DistError": _MODEL,
        "triton.runtime.autotuner.OutOfResources": _MODEL,  # former name
        "triton.runtime.errors.OutOfResources": _MODEL,
        "vllm.engine.async_llm_engine.AsyncEngineDeadError": _MODEL,
        "vllm.engine.multiprocessing.MQEngineDeadError": _MODEL,
        "vllm.v1.engine.exceptions.EngineDeadError": _MODEL,
        "vllm.v1.engine.exceptions.EngineGenerateError": _MODEL,
        "vllm.v1.engine.exceptions.EngineRequestTimeoutError": _TIMEOUT,
        # AI services
        "anthropic.APITimeoutError": _TIMEOUT,
        "anthropic.AnthropicError": _EXTERNAL,
        "anthropic.GatewayTimeoutError": _TIMEOUT,
        "anthropic.RateLimitError": _RATE_LIMIT,
        "cohere.core.api_error.ApiError": _EXTERNAL,
        "google.genai.errors.APIError": _EXTERNAL,
        "groq.APITimeoutError": _TIMEOUT,
        "groq.GroqError": _EXTERNAL,
        "groq.RateLimitError": _RATE_LIMIT,
        "huggingface_hub.errors.EntryNotFoundError": _MODEL,
        "huggingface_hub.errors.HFValidationError": _VALIDATION,
        "huggingface_hub.errors.HfHubHTTPError": _EXTERNAL,
        "huggingface_hub.errors.InferenceEndpointTimeoutError": _TIMEOUT,
        "huggingface_hub.errors.InferenceTimeoutError": _TIMEOUT,
        "huggingface_hub.errors.LocalEntryNotFoundError": _MODEL,
        "huggingface_hub.errors.SafetensorsParsingError": _MODEL,
        "huggingface_hub.errors.TextGenerationError": _MODEL,
        "huggingface_hub.inference._common.InferenceTimeoutError": _TIMEOUT,  # former names
        "huggingface_hub.utils._errors.HfHubHTTPError": _EXTERNAL,
        "huggingface_hub.utils._errors.LocalEntryNotFoundError": _MODEL,
        "ollama._types.RequestError": _EXTERNAL,
        "ollama._types.ResponseError": _EXTERNAL,
        "openai.APITimeoutError": _TIMEOUT,
        "openai.ContentFilterFinishReasonError": _MODEL,
        "openai.LengthFinishReasonError": _MODEL,
        "openai.OpenAIError": _EXTERNAL,
        "openai.RateLimitError": _RATE_LIMIT,
        "openai.error.OpenAIError": _EXTERNAL,  # openai before 1
        "openai.error.RateLimitError": _RATE_LIMIT,
        "openai.error.Timeout": _TIMEOUT,
        "replicate.exceptions.ModelError": _MODEL,
        "replicate.exceptions.ReplicateException": _EXTERNAL,
        # Clouds and other services
        "azure.core.exceptions.AzureError": _EXTERNAL,
        "azure.core.exceptions.ServiceRequestTimeoutError": _TIMEOUT,
        "azure.core.exceptions.ServiceResponseTimeoutError": _TIMEOUT,
        "boto3.exceptions.Boto3Error": _EXTERNAL,
        "botocore.exceptions.BotoCoreError": _EXTERNAL,
        "botocore.exceptions.ClientError": _EXTERNAL,
        "botocore.exceptions.ConnectTimeoutError": _TIMEOUT,
        "botocore.exceptions.ParamValidationError": _UNKNOWN,
        "botocore.exceptions.ReadTimeoutError": _TIMEOUT,
        "dns.exception.DNSException": _EXTERNAL,
        "dns.exception.Timeout": _TIMEOUT,
        "docker.errors.DockerException": _EXTERNAL,
        "google.api_core.exceptions.GatewayTimeout": _TIMEOUT,
        "google.api_core.exceptions.GoogleAPIError": _EXTERNAL,
        "google.api_core.exceptions.RetryError": _TIMEOUT,
        "google.api_core.exceptions.TooManyRequests": _RATE_LIMIT,
        "google.auth.exceptions.GoogleAuthError": _EXTERNAL,
        "google.auth.exceptions.TimeoutError": _TIMEOUT,
        "googleapiclient.errors.Error": _EXTERNAL,
        "grpc.FutureTimeoutError": _TIMEOUT,
        "grpc.RpcError": _EXTERNAL,  # its code is asked first
        "kubernetes.client.exceptions.OpenApiException": _EXTERNAL,
        "kubernetes.client.rest.ApiException": _EXTERNAL,  # former name
        "ldap3.core.exceptions.LDAPException": _EXTERNAL,
        "minio.error.MinioException": _EXTERNAL,
        "paramiko.ssh_exception.SSHException": _EXTERNAL,
        "s3transfer.exceptions.RetriesExceededError": _EXTERNAL,
        "s3transfer.exceptions.S3UploadFailedError": _EXTERNAL,
        "stripe._error.RateLimitError": _RATE_LIMIT,
        "stripe._error.StripeError": _EXTERNAL,
        "stripe.error.RateLimitError": _RATE_LIMIT,  # former names
        "stripe.error.StripeError": _EXTERNAL,
        "twilio.base.exceptions.TwilioException": _EXTERNAL,
        # Tokens, signatures, sign-in
        "argon2.exceptions.VerificationError": _AUTHENTICATION,
        "authlib.common.errors.AuthlibBaseError": _AUTHENTICATION,
        "cryptography.exceptions.InvalidSignature": _AUTHENTICATION,
        "cryptography.fernet.InvalidToken": _AUTHENTICATION,
        "django.core.signing.BadSignature": _AUTHENTICATION,
        "guardpost.errors.InvalidCredentialsError": _AUTHENTICATION,
        "itsdangerous.exc.BadData": _AUTHENTICATION,
        "jose.exceptions.JOSEError": _AUTHENTICATION,
        "joserfc.errors.JoseError": _AUTHENTICATION,
        "jwt.exceptions.PyJWKClientConnectionError": _EXTERNAL,
        "jwt.exceptions.PyJWTError": _AUTHENTICATION,
        "oauthlib.oauth2.rfc6749.errors.OAuth2Error": _AUTHENTICATION,
        # Rate limits and circuits
        "aiobreaker.state.CircuitBreakerError": _EXTERNAL,
        "circuitbreaker.CircuitBreakerError": _EXTERNAL,
        "pybreaker.CircuitBreakerError": _EXTERNAL,
        "pyrate_limiter.exceptions.BucketFullException": _RATE_LIMIT,
        "ratelimit.exception.RateLimitException": _RATE_LIMIT,
        # Frameworks and servers: mistakes, settings, and clients that left
        "PIL.Image.DecompressionBombError": _UNKNOWN,
        "PIL.UnidentifiedImageError": _UNKNOWN,
        "av.error.FFmpegError": _UNKNOWN,
        "blacksheep.exceptions.MessageAborted": _UNKNOWN,
        "django.core.exceptions.AppRegistryNotReady": _SYSTEM,
        "django.core.exceptions.FieldError": _UNKNOWN,
        "django.core.exceptions.ImproperlyConfigured": _SYSTEM,
        "django.core.exceptions.MultipleObjectsReturned": _DATABASE,
        "django.core.exceptions.RequestAborted": _UNKNOWN,
        "django.core.exceptions.SynchronousOnlyOperation": _UNKNOWN,
        "django.http.request.RawPostDataException": _UNKNOWN,
        "django.http.request.UnreadablePostError": _UNKNOWN,
        "django.template.exceptions.TemplateDoesNotExist": _SYSTEM,
        "django.template.exceptions.TemplateSyntaxError": _UNKNOWN,
        "django.urls.exceptions.NoReverseMatch": _UNKNOWN,
        "falcon.errors.WebSocketDisconnected": _UNKNOWN,
        "fastapi.exceptions.FastAPIError": _UNKNOWN,
        "jinja2.exceptions.TemplateError": _UNKNOWN,
        "jinja2.exceptions.TemplateNotFound": _SYSTEM,
        "litestar.exceptions.base_exceptions.SerializationException": _UNKNOWN,
        "litestar.exceptions.websocket_exceptions.WebSocketDisconnect": _UNKNOWN,
        "starlette.requests.ClientDisconnect": _UNKNOWN,
        "starlette.routing.NoMatchFound": _UNKNOWN,
        "starlette.websockets.WebSocketDisconnect": _UNKNOWN,
        "tornado.websocket.WebSocketClosedError": _UNKNOWN,
        "uvicorn.protocols.utils.ClientDisconnected": _UNKNOWN,
        "werkzeug.routing.exceptions.BuildError": _UNKNOWN,
    }
)

# The exceptions by which a framework's user answers the client: the attribute that holds the
# status, or the status that the framework itself gives them.
HTTP_EXCEPTIONS: Final[Mapping[str, str | int]] = MappingProxyType(
    {
        "aiohttp.web_exceptions.HTTPException": "status",
        "blacksheep.exceptions.HTTPException": "status",
        "connexion.exceptions.ProblemException": "status",
        "django.core.exceptions.BadRequest": 400,
        "django.core.exceptions.PermissionDenied": 403,
        "django.core.exceptions.SuspiciousOperation": 400,
        "django.http.multipartparser.MultiPartParserError": 400,
        "django.http.response.Http404": 404,
        "falcon.http_error.HTTPError": "status",
        "falcon.http_status.HTTPStatus": "status",
        "fastapi.exceptions.RequestValidationError": 422,
        "fastapi.exceptions.WebSocketRequestValidationError": 422,
        "guardpost.authorization.ForbiddenError": 403,
        "guardpost.authorization.UnauthorizedError": 401,
        "guardpost.errors.RateLimitExceededError": 429,
        "litestar.exceptions.http_exceptions.HTTPException": "status_code",
        "ninja.errors.AuthenticationError": 401,
        "ninja.errors.HttpError": "status_code",
        "ninja.errors.MethodNotAllowedError": 405,
        "ninja.errors.ValidationError": 422,
        "rest_framework.exceptions.APIException": "status_code",
        "sanic.exceptions.SanicException": "status_code",
        "starlette.exceptions.HTTPException": "status_code",
        "tornado.web.HTTPError": "status_code",
        "werkzeug.exceptions.HTTPException": "code",
    }
)

# Statuses after RFC 9110, 15.5 and 15.6; every other 4xx is VALIDATION, everything else UNKNOWN.
STATUSES: Final[Mapping[int, ErrorType]] = MappingProxyType(
    {
        401: _AUTHENTICATION,
        403: _AUTHORIZATION,
        404: _NOT_FOUND,
        407: _AUTHENTICATION,
        408: _TIMEOUT,
        410: _NOT_FOUND,
        429: _RATE_LIMIT,
        499: _UNKNOWN,  # nginx: the client closed the request
        502: _EXTERNAL,
        503: _SYSTEM,
        504: _TIMEOUT,
        507: _SYSTEM,
        508: _SYSTEM,
    }
)

# Every errno that is not named here is SYSTEM, EACCES and EPERM with them: a file that the server
# may not read is no fault in its client's authorization.
ERRNOS: Final[Mapping[str, ErrorType]] = MappingProxyType(
    {
        "ECONNABORTED": _EXTERNAL,
        "ECONNREFUSED": _EXTERNAL,
        "ECONNRESET": _EXTERNAL,
        "EHOSTDOWN": _EXTERNAL,
        "EHOSTUNREACH": _EXTERNAL,
        "ENETDOWN": _EXTERNAL,
        "ENETRESET": _EXTERNAL,
        "ENETUNREACH": _EXTERNAL,
        "ENOMEM": _MEMORY,
        "ENOTCONN": _EXTERNAL,
        "EPIPE": _EXTERNAL,
        "ESHUTDOWN": _EXTERNAL,
        "ETIME": _TIMEOUT,
        "ETIMEDOUT": _TIMEOUT,
    }
)

# gRPC status codes; every other code is EXTERNAL_SERVICE, since it speaks of the upstream.
GRPC_CODES: Final[Mapping[str, ErrorType]] = MappingProxyType(
    {"DEADLINE_EXCEEDED": _TIMEOUT, "RESOURCE_EXHAUSTED": _RATE_LIMIT}
)

# Followed by one of these it is an option that is spoken of, not the event.
_OPTION = r"(?! (?:must|should|cannot|config\w*|setting|value|argument|parameter|option|field)\b)"
# Preceded by one of these it is a shape of data, not an AI model.
_AI = "".join(f"(?<!{word} )" for word in ("data", "view", "domain", "user", "django", "orm"))
_AI_WORK = (
    r"(?:load\w*|download\w*|initiali[sz]\w*|warm\w*|predict\w*|generat\w*|execut\w*|crash\w*"
    r"|fail\w*|overload\w*|inference|forward|output|weights?|checkpoints?|pipeline|server|serving"
    r"|worker|registry|unavailable|timed|error|exception|(?:is )?not (?:loaded|ready|available|found)"
    r"|is (?:still )?(?:loading|busy|overloaded))"
)
_NOT_FORM = r"(?! (?:field|form)s?\b)"
_NOT_COLUMN = r"(?! (?:field|table|model|class|bits?|must)\b)"
_NOT_TRAINING = r"(?! (?:loss|accuracy|split|step|set|batch|epoch|data|dataset)\b)"
_SHORTAGE = r"(?:limit|error|allocation|pressure|leak|budget|full|exhausted|exceeded)"
_BROKEN = r"(?:refused|reset|aborted|closed|lost|error|exception|failed|failure)"
_THING = r"(?:files?|object|record|resource|row|page|document|item|asset|video|image|entity)"
_INPUT = (
    r"(?:input|request|param\w*|argument|field|value|format|data|id|uuid|name|email|url|json|payload"
    r"|body|query|date|datetime|type|range|choice|prompt|username|image|video)"
)

# Words that tell a type when nothing better does, in the order in which the types are tried: over
# the words of a custom class's name, then over the first characters of its message, both in lower
# case. Each pattern stands behind a piece of text without which it cannot match: looking for that
# is 20 times cheaper. Every pattern is bound to whole words and looks a bounded way ahead, so that
# a search is linear in the text.
WORDS: Final[Mapping[ErrorType, tuple[tuple[str, str], ...]]] = MappingProxyType(
    {
        _TIMEOUT: (
            ("timeout", rf"(?<!invalid )(?<!negative )\btimeouts?\b(?!\s?=){_OPTION}"),
            ("out", r"\btimed?[ -]out\b"),
            ("exceeded", r"\b(?:deadline|time limit) (?:was )?exceeded\b"),
            ("too long", r"\btook too long\b"),
        ),
        _MEMORY: (
            ("memory", r"\bout of (?:\w{1,20} )?memory\b"),
            ("memory", r"\b(?:insufficient|not enough|no free|low) (?:\w{1,20} )?memory\b"),
            ("memory", r"\b(?:exhausted|exceeded|high|excessive) (?:\w{1,20} )?memory\b"),
            ("memory", rf"(?<!in-)(?<!in )\bmemory (?:is )?{_SHORTAGE}\b"),
            ("memory", r"\bmemory (?:usage|use|consumption) (?:is )?(?:too )?(?:high|exceed)"),
            ("allocate", r"\b(?:cannot|could not|unable to|failed to) allocate (?:memory|\d)"),
            ("oom", r"\boom\b"),
            ("bad_alloc", r"\bbad_alloc\b"),
            ("resource_exhausted", r"\bresource_exhausted\b"),
        ),
        _DATABASE: (
            ("database", r"\bdatabases?\b"),
            ("sql", r"\b(?:sql|postgresql|mysql|sqlite3?|sqlalchemy)\b"),
            ("db", r"\b(?:mariadb|mongodb|db (?:error|exception|failure|connection|query))\b"),
            ("postgres", r"\bpostgres\b"),
            ("deadlock", r"\bdeadlock detected\b"),
        ),
        _CACHE: (
            ("cach", r"(?<!kv )\bcach(?:e|es|ing)\b(?![ -]control\b)"),
            ("memcache", r"\bmemcached?\b"),
            ("redis", r"\bredis\b"),
            ("valkey", r"\bvalkey\b"),
        ),
        _MODEL: (
            ("model", rf"{_AI}\bmodels? {_AI_WORK}\b"),
            (
                "model",
                rf"\b(?:download|load|run|serv)\w*\b[^.\n]{{0,30}}{_AI}\bmodels?\b{_NOT_FORM}",
            ),
            ("model", r"\b(?:ai|ml|language|diffusion|onnx|vision|embedding) models?\b"),
            ("inference", r"(?<!type )(?<!schema )\binference\b"),
            ("gpu", r"\bgpus?\b"),
            ("cu", r"\b(?:cuda|cudnn|cublas)\b"),
            ("nccl", r"\bnccl\b"),
            ("llm", r"\bllms?\b"),
            ("tensor", r"\b(?:tensors?|tensorrt|safetensors?)\b"),
            ("tokenizer", r"\btokenizers?\b"),
            ("load", r"\bload\w*\b[^.\n]{0,30}\b(?:checkpoints?|weights)\b"),
            ("checkpoint", r"\bcheckpoint (?:file|shard|weights)\b"),
        ),
        _EXTERNAL: (
            ("connection", rf"\bconnection (?:was |is )?{_BROKEN}\b"),
            ("connect", r"\bconnect(?:ing)? to (?:the )?(?:remote|server|host|service|upstream)\b"),
            ("unavailable", r"\bservice (?:is |was )?(?:temporarily )?unavailable\b"),
            ("external", r"\bexternal (?:service|api)\b"),
            ("upstream", r"\bupstream\b"),
            ("bad gateway", r"\bbad gateway\b"),
            ("name resolution", r"\bname resolution\b"),
        ),
        _RATE_LIMIT: (
            ("rate", rf"\brate[ _-]?limit(?:s|ed|ing|er)?(?:_exceeded)?\b{_OPTION}"),
            ("too many", r"\btoo many requests\b"),
            ("quota", r"\bquota (?:was |is )?exceeded\b"),
            ("throttled", r"\bthrottled\b"),
        ),
        _NOT_FOUND: (
            ("not found", r"\bnot found\b"),
            ("exist", r"\b(?:does not|doesn't) exist\b"),
            ("no such", r"\bno such \w"),
            ("404", r"\b(?:http|status|code|error|response)[ :=]{1,2}(?:code[ :=]{1,2})?404\b"),
            ("404", r"^404\b|\b404 (?:client )?error\b"),
            ("missing", rf"\bmissing (?:\w{{1,20}} )?{_THING}\b"),
            ("missing", rf"\b(?:{_THING}|it|which) (?:is |are |was |were |went )?missing\b"),
        ),
        _AUTHENTICATION: (
            ("authenticated", r"\b(?:unauthenticated|not authenticated)\b"),
            ("authentication", rf"\bauthentication (?:{_BROKEN}|required)\b"),
            ("invalid", r"\binvalid (?:\w{1,20} )?(?:credentials?|token|key|password|signature)\b"),
            ("expired", r"\b(?:token|session) (?:has |is )?expired\b|\bexpired token\b"),
        ),
        _AUTHORIZATION: (
            # "[Errno 13] Permission denied" is the server's own file, written out.
            ("permission", rf"(?<!\] )\bpermissions?\b{_NOT_COLUMN}"),
            ("denied", r"\baccess (?:is |was )?denied\b"),
            ("authori", r"\b(?:unauthori[sz]ed|not authori[sz]ed)\b"),
            ("authori", rf"\bauthori[sz]ation {_BROKEN}\b"),
            ("forbidden", r"\bforbidden\b"),
        ),
        _VALIDATION: (
            ("validation", rf"\bvalidations?\b{_NOT_TRAINING}"),
            ("bad request", r"\bbad request\b"),
            ("malformed", r"\bmalformed (?:\w{1,20} )?(?:request|input|body|payload|json)\b"),
            ("invalid", rf"\binvalid (?:\w{{1,20}} )?{_INPUT}\b"),
            ("invalid", r"^invalid \w{1,20} (?:error|exception)$"),
            ("missing", r"\bmissing (?:a )?required (?:field|parameter|property|header|query)\b"),
        ),
    }
)
